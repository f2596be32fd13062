# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Look closer at the brightest source
requirements:
  InlineJavascriptRequirement: {}
  ResourceRequirement: {coresMin: 1, ramMin: 64}
  ToolTimeLimit: {timelimit: 120}
baseCommand: [sh, -c]
arguments:
  - position: 1
    valueFrom: |
      sleep "$1"; awk 'NR == 1 { printf "the brightest, in field %d at (%d, %d), has %.1f sigma\n", $1, $2, $3, $4 }' "$2"
  - {position: 2, valueFrom: zoom}
inputs:
  pace: {type: float, label: Seconds it takes, inputBinding: {position: 3}}
  table: {type: File, label: The catalogue, inputBinding: {position: 4}}
stdout: profile.txt
outputs:
  profile:
    label: What it looks like
    type: stdout
