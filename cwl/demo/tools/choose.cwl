# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: ExpressionTool
label: Choose the source worth a closer look
doc: |
  Counts the sources and tells how large the first one is, the one with the most flux, so that the workflow can decide
  whether to take it apart.

requirements:
  InlineJavascriptRequirement: {}

inputs:
  catalogue:
    label: The catalogue (JSON)
    type: File
    loadContents: true

expression: |
  ${
    var sources = JSON.parse(inputs.catalogue.contents).sources;
    if (sources.length === 0) {
      return {count: 0, source: 0, beams: 0, summary: "no sources"};
    }
    var first = sources[0];
    return {
      count: sources.length,
      source: first.number,
      beams: first.beams,
      summary: sources.length + (sources.length === 1 ? " source" : " sources") + "; the strongest, " + first.name
        + ", has " + first.flux.toFixed(2) + " Jy in " + Math.round(first.beams) + " beams"
    };
  }

outputs:
  count:
    label: How many sources there are
    type: int
  source:
    label: The strongest source's number, 0 when there is none
    type: int
  beams:
    label: How many beams it covers
    type: float
  summary:
    label: The same in a sentence
    type: string
