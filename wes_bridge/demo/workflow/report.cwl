# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Write it up
requirements:
  InlineJavascriptRequirement: {}
  ResourceRequirement: {coresMin: 1, ramMin: 64}
  ToolTimeLimit: {timelimit: 120}
baseCommand: [sh, -c]
arguments:
  - position: 1
    valueFrom: |
      sleep "$1"; awk '{ fields[$1]++; n++ } END { printf "%d sources; by field:", n; for (i = 1; i in fields; i++) printf " %d", fields[i]; print "" }' "$2"; cat "$3"
  - {position: 2, valueFrom: report}
inputs:
  pace: {type: float, label: Seconds it takes, inputBinding: {position: 3}}
  table: {type: File, label: The catalogue, inputBinding: {position: 4}}
  profile: {type: File, label: The closer look, inputBinding: {position: 5}}
stdout: report.txt
outputs:
  text:
    label: The report
    type: stdout
