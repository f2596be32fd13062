# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: Workflow
label: The brightest sources of a list
doc: |
  A chain: the step `sort` puts the lines of a file into order, brightest first, and its output is the input of the step
  `top`, which keeps the first few.

inputs:
  sources:
    label: A table of name and flux, one source a line
    type: File
  count:
    label: How many to keep
    type: int
    default: 3

steps:
  sort:
    label: Put the brightest first
    in: {table: sources}
    out: [sorted]
    run:
      class: CommandLineTool
      requirements:
        EnvVarRequirement:
          envDef: {LC_ALL: C}
      baseCommand: [sort, -k, 2nr]
      inputs:
        table:
          type: File
          inputBinding: {position: 1}
      outputs:
        sorted: stdout
      stdout: sorted.txt

  top:
    label: Keep the first few
    in: {table: sort/sorted, count: count}
    out: [first]
    run:
      class: CommandLineTool
      baseCommand: head
      inputs:
        count:
          type: int
          inputBinding: {prefix: -n, position: 1}
        table:
          type: File
          inputBinding: {position: 2}
      outputs:
        first: stdout
      stdout: brightest.txt

outputs:
  brightest:
    type: File
    outputSource: top/first
