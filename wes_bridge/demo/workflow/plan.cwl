# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Say where to point
requirements:
  InlineJavascriptRequirement: {}
  ResourceRequirement: {coresMin: 1, ramMin: 64}
  ToolTimeLimit: {timelimit: 120}
baseCommand: [sh, -c]
arguments:
  - position: 1
    valueFrom: sleep "$1"; awk -v many="$2" 'BEGIN { for (i = 1; i <= many; i++) print i }'
  - {position: 2, valueFrom: plan}
inputs:
  pace: {type: float, label: Seconds it takes, inputBinding: {position: 3}}
  fields: {type: int, label: How many, inputBinding: {position: 4}}
stdout: fields.txt
outputs:
  numbers:
    label: The fields' numbers
    type: int[]
    outputBinding:
      glob: fields.txt
      loadContents: true
      outputEval: $(self[0].contents.trim().split("\n").map(Number))
