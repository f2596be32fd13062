# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: CommandLineTool
label: Say hello
doc: |
  The smallest useful tool: one command, one input, one output. The input `name` is put on the command line, and what
  the command prints is kept in a file.

baseCommand: echo
arguments: [Hello]
inputs:
  name:
    type: string
    inputBinding: {position: 1}
outputs:
  greeting:
    type: stdout
stdout: hello.txt
