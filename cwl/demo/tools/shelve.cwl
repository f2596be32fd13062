# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: ExpressionTool
label: Put the tiles' results into one folder
doc: Gathers what was measured and found in each tile in a Directory, so that it can be fetched and kept as one thing.

requirements:
  InlineJavascriptRequirement: {}

inputs:
  measured:
    label: Each tile's measurements
    type: File[]
  islands:
    label: The islands of each tile that was searched, with their masks
    type: File[]
    secondaryFiles: [^.fits]

expression: |
  ${
    var listing = inputs.measured.slice();
    inputs.islands.forEach(function (file) {
      listing.push({class: "File", location: file.location, basename: file.basename});
      (file.secondaryFiles || []).forEach(function (mask) { listing.push(mask); });
    });
    return {folder: {class: "Directory", basename: "tiles", listing: listing}};
  }

outputs:
  folder:
    label: The folder
    type: Directory
