# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Put all sources into one catalogue
requirements:
  InlineJavascriptRequirement: {}
  ResourceRequirement: {coresMin: 1, ramMin: 64}
  ToolTimeLimit: {timelimit: 120}
baseCommand: [sh, -c]
arguments:
  - position: 1
    valueFrom: sleep "$1"; shift; sort -k4,4nr -k1,1n "$@"
  - {position: 2, valueFrom: catalogue}
inputs:
  pace: {type: float, label: Seconds it takes, inputBinding: {position: 3}}
  images: {type: 'File[]', label: The sources by field, inputBinding: {position: 4}}
stdout: catalogue.txt
outputs:
  table:
    label: The brightest first
    type: stdout
  peak:
    label: Signal to noise of the brightest
    type: float
    outputBinding:
      glob: catalogue.txt
      loadContents: true
      outputEval: $(Number(self[0].contents.split("\n")[0].split(" ")[3]))
