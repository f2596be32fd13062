cwlVersion: v1.2
class: CommandLineTool
label: Says something, with the length of a file
baseCommand: [sh, -c, 'echo "$1: $(wc -c < "$2") bytes"', hello]
inputs:
  message: {type: string, inputBinding: {position: 1}}
  file: {type: File, inputBinding: {position: 2}}
outputs:
  answer: stdout
stdout: answer.txt
