# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Merge the islands into a catalogue
doc: |
  Joins islands that touch across tile borders into sources, adds up their fluxes, and lists them by flux, each with its
  position on the sky. Without any island the catalogue is empty.

requirements:
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
    default: {class: File, location: ../scripts/merge.py}
    inputBinding: {position: 1}
  image:
    label: The map (FITS), for its sky coordinates
    type: File
    inputBinding: {position: 2}
  seed:
    label: A source must reach this, in sigma
    type: float
    inputBinding: {prefix: --seed, position: 3}
  levels:
    label: Each tile's background and noise (JSON)
    type: File
    inputBinding: {prefix: --levels, position: 3}
  islands:
    label: The islands of each tile that was searched, with their masks
    type: File[]
    secondaryFiles: [^.fits]
    inputBinding: {prefix: --islands, position: 4}

outputs:
  table:
    label: The catalogue (CSV)
    type: File
    outputBinding: {glob: catalogue.csv}
  catalogue:
    label: The catalogue and the tiles' levels (JSON)
    type: File
    outputBinding: {glob: catalogue.json}
  mask:
    label: Each pixel's source number (FITS)
    type: File
    outputBinding: {glob: sources.fits}
