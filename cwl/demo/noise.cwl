# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: Workflow
label: Measure how the noise varies over a map
doc: |
  Cuts a map into tiles, measures each one on its own, and evens background and noise out between neighbours.

requirements:
  ScatterFeatureRequirement: {}

inputs:
  image:
    label: The map (FITS, Jy/beam)
    type: File
  columns:
    label: Tiles side by side
    type: int
  rows:
    label: Tiles one above the other
    type: int

steps:
  split:
    label: Cut the map into tiles
    run: tools/split.cwl
    in: {image: image, columns: columns, rows: rows}
    out: [tiles]
  measure:
    label: Measure background, noise and peak of each tile
    run: tools/measure.cwl
    scatter: tile
    in: {tile: split/tiles}
    out: [measured]
  level:
    label: Even background and noise out between neighbours
    run: tools/level.cwl
    in: {measured: measure/measured}
    out: [background, rms, snr, levels]

outputs:
  tiles:
    label: The tiles
    type: File[]
    secondaryFiles: [^.json]
    outputSource: split/tiles
  measured:
    label: Each tile's measurements
    type: File[]
    outputSource: measure/measured
  background:
    label: Each tile's background, in Jy/beam
    type: float[]
    outputSource: level/background
  rms:
    label: Each tile's noise, in Jy/beam
    type: float[]
    outputSource: level/rms
  snr:
    label: Each tile's peak, in sigma
    type: float[]
    outputSource: level/snr
  levels:
    label: Background and noise of all tiles in one file
    type: File
    outputSource: level/levels
