# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: Workflow
label: Observe and image one field
inputs:
  number:
    label: Which field
    type: int
  pace:
    label: Seconds a step takes
    type: float
steps:
  observe:
    label: Count photons, cell by cell
    run: observe.cwl
    in: {number: number, pace: pace}
    out: [counts]
  image:
    label: Find what stands out of the noise
    run: image.cwl
    in: {counts: observe/counts, pace: pace}
    out: [image, noise]
outputs:
  sources:
    label: The field's sources
    type: File
    outputSource: image/image
  noise:
    label: The field's noise
    type: float
    outputSource: image/noise
