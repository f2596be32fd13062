# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Draw the survey
doc: |
  Draws the map with the tile grid and the sources, the strongest source with its knots and their tree, and the
  histogram of all pixels beside that of pure noise.

requirements:
  EnvVarRequirement:
    envDef:
      MPLCONFIGDIR: $(runtime.tmpdir)
  ResourceRequirement: {coresMin: 1, ramMin: 256, tmpdirMin: 8, outdirMin: 8}
  ToolTimeLimit: {timelimit: 180}
hints:
  SoftwareRequirement:
    packages: [{package: astropy}, {package: matplotlib}, {package: numpy}]

baseCommand: python3
inputs:
  script:
    label: The program
    type: File
    default: {class: File, location: ../scripts/plot.py}
    inputBinding: {position: 1}
  image:
    label: The map (FITS)
    type: File
    inputBinding: {position: 2}
  catalogue:
    label: The catalogue and the tiles' levels (JSON)
    type: File
    inputBinding: {position: 3}
  mask:
    label: Each pixel's source number (FITS)
    type: File
    inputBinding: {position: 4}
  seed:
    label: The detection threshold, in sigma
    type: float
    inputBinding: {prefix: --seed, position: 6}
  structures:
    label: The tree of the strongest source (JSON), if there is one
    type: File?
    inputBinding: {prefix: --structures, position: 6}
  title:
    label: The picture's title
    type: string?
    inputBinding: {prefix: --title, position: 6}
arguments:
  - position: 5
    valueFrom: survey.png

outputs:
  picture:
    label: The picture (PNG)
    type: File
    outputBinding: {glob: survey.png}
