# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: Workflow
label: Survey a radio map
doc: |
  Finds the sources in a radio map, tile by tile. The noise is measured in every tile at once; tiles that hold nothing
  above the threshold are skipped; what the others hold is joined across tile borders into a catalogue. If the strongest
  source is large, it is taken apart into knots. A picture shows it all on one page.

requirements:
  InlineJavascriptRequirement: {}
  MultipleInputFeatureRequirement: {}
  ScatterFeatureRequirement: {}
  SubworkflowFeatureRequirement: {}

inputs:
  image:
    label: The map
    doc: A 2-D FITS image in Jy/beam whose header has the beam (BMAJ, BMIN) and sky coordinates.
    type: File
  columns:
    label: Tiles side by side
    type: int
    default: 4
  rows:
    label: Tiles one above the other
    type: int
    default: 3
  seed:
    label: A source must reach this, in sigma
    type: float
    default: 5
  grow:
    label: A source ends where it falls below this, in sigma
    type: float
    default: 3
  large:
    label: Take the strongest source apart if it covers so many beams
    type: float
    default: 20
  contrast:
    label: How far a knot must stand out from its neighbours, in sigma
    type: float
    default: 8
  title:
    label: The picture's title
    type: string?

steps:
  noise:
    label: Measure how the noise varies over the map
    run: noise.cwl
    in: {image: image, columns: columns, rows: rows}
    out: [tiles, measured, background, rms, snr, levels]

  find:
    label: Find islands of emission in each tile that may hold some
    run: tools/find.cwl
    scatter: [tile, background, rms, snr]
    scatterMethod: dotproduct
    when: $(inputs.snr >= inputs.seed)
    in:
      tile: noise/tiles
      background: noise/background
      rms: noise/rms
      snr: noise/snr
      seed: seed
      grow: grow
    out: [islands]

  merge:
    label: Merge the islands into a catalogue
    run: tools/merge.cwl
    in:
      image: image
      seed: seed
      levels: noise/levels
      islands:
        source: [find/islands]
        linkMerge: merge_flattened
        pickValue: all_non_null
    out: [table, catalogue, mask]

  choose:
    label: Choose the source worth a closer look
    run: tools/choose.cwl
    in: {catalogue: merge/catalogue}
    out: [count, source, beams, summary]

  dissect:
    label: Take the strongest source apart, if it is large
    run: tools/dissect.cwl
    when: $(inputs.beams >= inputs.large)
    in:
      image: image
      catalogue: merge/catalogue
      mask: merge/mask
      source: choose/source
      contrast: contrast
      beams: choose/beams
      large: large
    out: [structures]

  plot:
    label: Draw map, sources and histogram
    run: tools/plot.cwl
    in:
      image: image
      catalogue: merge/catalogue
      mask: merge/mask
      seed: seed
      structures: dissect/structures
      title: title
    out: [picture]

  shelve:
    label: Put the tiles' results into one folder
    run: tools/shelve.cwl
    in:
      measured: noise/measured
      islands:
        source: [find/islands]
        linkMerge: merge_flattened
        pickValue: all_non_null
    out: [folder]

outputs:
  picture:
    label: The survey on one page (PNG)
    type: File
    outputSource: plot/picture
  table:
    label: The catalogue (CSV)
    type: File
    outputSource: merge/table
  catalogue:
    label: The catalogue and the tiles' levels (JSON)
    type: File
    outputSource: merge/catalogue
  mask:
    label: Each pixel's source number (FITS)
    type: File
    outputSource: merge/mask
  structures:
    label: The knots of the strongest source (JSON), if it is large
    type: File?
    outputSource: dissect/structures
  tiles:
    label: What was measured and found in each tile
    type: Directory
    outputSource: shelve/folder
  count:
    label: How many sources there are
    type: int
    outputSource: choose/count
  summary:
    label: The result in a sentence
    type: string
    outputSource: choose/summary
