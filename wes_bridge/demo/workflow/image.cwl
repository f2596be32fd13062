# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Find what stands out of the noise
requirements:
  InlineJavascriptRequirement: {}
  ResourceRequirement: {coresMin: 1, ramMin: 64}
  ToolTimeLimit: {timelimit: 120}
baseCommand: [sh, -c]
arguments:
  - position: 1
    valueFrom: |
      sleep "$1"; awk '
        { sum += $3; squares += $3 * $3; field[NR] = $1; cell[NR] = $2; bright[NR] = $3 }
        END {
          noise = sqrt(squares / NR - (sum / NR) ^ 2)
          printf "%.3f\n", noise > "noise.txt"
          for (i = 1; i <= NR; i++) if (bright[i] > 3.5 * noise)
            printf "%d %d %d %.1f\n", field[i], cell[i] % 20, cell[i] / 20, bright[i] / noise
        }' "$2"
  - {position: 2, valueFrom: image}
inputs:
  pace: {type: float, label: Seconds it takes, inputBinding: {position: 3}}
  counts: {type: File, label: Brightness by cell, inputBinding: {position: 4}}
stdout: sources.txt
outputs:
  image:
    label: Field, x, y and signal to noise of each source
    type: stdout
  noise:
    label: The noise
    type: float
    outputBinding:
      glob: noise.txt
      loadContents: true
      outputEval: $(Number(self[0].contents))
