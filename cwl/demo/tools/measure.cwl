# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Measure one tile
doc: |
  Measures the sky background and the noise of one tile with the sources clipped away, its peak, and the flux above
  the background.

requirements:
  InlineJavascriptRequirement: {}
  ResourceRequirement: {coresMin: 1, ramMin: 128, tmpdirMin: 1, outdirMin: 1}
  ToolTimeLimit: {timelimit: 120}
hints:
  SoftwareRequirement:
    packages: [{package: astropy}, {package: numpy}]

baseCommand: python3
inputs:
  script:
    label: The program
    type: File
    default: {class: File, location: ../scripts/measure.py}
    inputBinding: {position: 1}
  tile:
    label: A tile, its place in the map beside it
    type: File
    secondaryFiles: [^.json]
    inputBinding: {position: 2}
arguments:
  - position: 3
    valueFrom: $(inputs.tile.nameroot).measured.json

outputs:
  measured:
    label: The measurements (JSON)
    type: File
    outputBinding: {glob: $(inputs.tile.nameroot).measured.json}
