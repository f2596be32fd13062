# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Find islands of emission in one tile
doc: |
  Finds patches of connected pixels above grow sigma that reach seed sigma, or that touch the edge and may go on in the
  next tile. The mask beside the list (a secondary file) holds each pixel's island.

requirements:
  InlineJavascriptRequirement: {}
  ResourceRequirement: {coresMin: 1, ramMin: 128, tmpdirMin: 1, outdirMin: 8}
  ToolTimeLimit: {timelimit: 120}
hints:
  SoftwareRequirement:
    packages: [{package: astropy}, {package: numpy}]

baseCommand: python3
inputs:
  script:
    label: The program
    type: File
    default: {class: File, location: ../scripts/find.py}
    inputBinding: {position: 1}
  tile:
    label: A tile, its place in the map beside it
    type: File
    secondaryFiles: [^.json]
    inputBinding: {position: 2}
  background:
    label: The level of the quiet sky, in Jy/beam
    type: float
    inputBinding: {prefix: --background, position: 4}
  rms:
    label: The noise, one sigma, in Jy/beam
    type: float
    inputBinding: {prefix: --rms, position: 4}
  seed:
    label: An island must reach this, in sigma
    type: float
    inputBinding: {prefix: --seed, position: 4}
  grow:
    label: An island ends where it falls below this, in sigma
    type: float
    inputBinding: {prefix: --grow, position: 4}
arguments:
  - position: 3
    valueFrom: $(inputs.tile.nameroot).islands.json

outputs:
  islands:
    label: The islands (JSON), their mask (FITS) beside it
    type: File
    secondaryFiles: [^.fits]
    outputBinding: {glob: $(inputs.tile.nameroot).islands.json}
