# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Take one source apart
doc: |
  Computes the dendrogram of one source: which knots of emission it has, and how they hang together.

requirements:
  EnvVarRequirement:
    envDef:
      MPLCONFIGDIR: $(runtime.tmpdir)
  ResourceRequirement: {coresMin: 1, ramMin: 256, tmpdirMin: 8, outdirMin: 1}
  ToolTimeLimit: {timelimit: 120}
hints:
  SoftwareRequirement:
    packages: [{package: astrodendro}, {package: astropy}, {package: numpy}]

baseCommand: python3
inputs:
  script:
    label: The program
    type: File
    default: {class: File, location: ../scripts/dissect.py}
    inputBinding: {position: 1}
  image:
    label: The map (FITS)
    type: File
    inputBinding: {position: 2}
  catalogue:
    label: The catalogue (JSON)
    type: File
    inputBinding: {position: 3}
  mask:
    label: Each pixel's source number (FITS)
    type: File
    inputBinding: {position: 4}
  source:
    label: Which source, by its number
    type: int
    inputBinding: {prefix: --source, position: 6}
  contrast:
    label: How far a knot must stand out from its neighbours, in sigma
    type: float
    inputBinding: {prefix: --contrast, position: 6}
arguments:
  - position: 5
    valueFrom: structures.json

outputs:
  structures:
    label: The tree of structures (JSON)
    type: File
    outputBinding: {glob: structures.json}
