# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Count photons, cell by cell
requirements:
  InlineJavascriptRequirement: {}
  ResourceRequirement: {coresMin: 1, ramMin: 64}
  ToolTimeLimit: {timelimit: 120}
doc: An invented sky of 400 cells, noise and a few sources; numbers of a small generator, the same with every awk.
baseCommand: [sh, -c]
arguments:
  - position: 1
    valueFrom: |
      sleep "$1"; awk -v field="$2" '
        function uniform() { seed = (seed * 8121 + 28411) % 134456; return seed / 134456 }
        BEGIN {
          seed = 1000 * field + 7
          for (cell = 0; cell < 400; cell++) {
            count = 0
            for (i = 0; i < 12; i++) count += uniform()
            printf "%d %d %.3f\n", field, cell, count - 6 + (uniform() > 0.99 ? 4 + 9 * uniform() : 0)
          }
        }'
  - {position: 2, valueFrom: observe}
inputs:
  pace: {type: float, label: Seconds it takes, inputBinding: {position: 3}}
  number: {type: int, label: Which field, inputBinding: {position: 4}}
stdout: counts.txt
outputs:
  counts:
    label: Field, cell and brightness
    type: stdout
