# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: Workflow
label: Survey a small sky
doc: |
  The workflow of `wes-bridge demo`. Fields of an invented sky are observed and imaged, each on its own; the images
  become a catalogue; if the brightest source stands out it gets a closer look, and if the sky is noisy the fields
  would be flagged (they are not). It needs sh, awk, sort and sleep only. Each step waits a moment, so that there is
  something to see; the sky is the same each time.

requirements:
  InlineJavascriptRequirement: {}
  MultipleInputFeatureRequirement: {}
  ScatterFeatureRequirement: {}
  SubworkflowFeatureRequirement: {}

inputs:
  fields:
    label: How many fields to observe
    type: int
    default: 6
  pace:
    label: Seconds an ordinary step takes
    type: float
    default: 0.5

steps:
  plan:
    label: Say where to point
    run: plan.cwl
    in: {fields: fields, pace: pace}
    out: [numbers]

  field:
    label: Observe and image each field
    run: field.cwl
    scatter: number
    in: {number: plan/numbers, pace: pace}
    out: [sources, noise]

  catalogue:
    label: Put all sources into one catalogue
    run: catalogue.cwl
    in: {images: field/sources, pace: pace}
    out: [table, peak]

  zoom:
    label: Look closer at the brightest source, if it stands out
    run: zoom.cwl
    when: $(inputs.peak > 8)
    in: {table: catalogue/table, peak: catalogue/peak, pace: pace}
    out: [profile]

  flag:
    label: Flag the fields, if the sky is noisy
    run: zoom.cwl
    when: $(inputs.noise.some(function(level) { return level > 3 }))
    in: {table: catalogue/table, noise: field/noise, pace: pace}
    out: [profile]

  report:
    label: Write it up
    run: report.cwl
    in:
      table: catalogue/table
      profile:
        source: [zoom/profile, flag/profile]
        pickValue: first_non_null
      pace: pace
    out: [text]

outputs:
  findings:
    label: What was found
    type: File
    outputSource: report/text
  table:
    label: The catalogue
    type: File
    outputSource: catalogue/table
