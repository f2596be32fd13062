# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Cut a map into tiles
doc: |
  Cuts a 2-D radio map in Jy/beam into columns x rows tiles. Each tile is a FITS image with its own sky coordinates;
  the JSON file beside it (a secondary file) says which part of the map it covers.

requirements:
  InlineJavascriptRequirement: {}
  ResourceRequirement: {coresMin: 1, ramMin: 128, tmpdirMin: 1, outdirMin: 64}
  ToolTimeLimit: {timelimit: 120}
hints:
  SoftwareRequirement:
    packages: [{package: astropy}, {package: numpy}]

baseCommand: python3
inputs:
  script:
    label: The program
    type: File
    default: {class: File, location: ../scripts/split.py}
    inputBinding: {position: 1}
  image:
    label: The map (FITS, Jy/beam)
    type: File
    inputBinding: {position: 2}
  columns:
    label: Tiles side by side
    type: int
    inputBinding: {prefix: --columns, position: 3}
  rows:
    label: Tiles one above the other
    type: int
    inputBinding: {prefix: --rows, position: 3}

outputs:
  tiles:
    label: The tiles, row by row
    type: File[]
    secondaryFiles: [^.json]
    outputBinding: {glob: tile_*.fits}
