# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: Workflow
label: Shout many words at once
doc: |
  A scatter: the step `shout` runs once for every word, all at the same time where there is room, and the step `collect`
  waits for them and joins the results in the words' order.

requirements:
  ScatterFeatureRequirement: {}

inputs:
  words: string[]

steps:
  shout:
    label: Put one word into capitals
    scatter: word
    in: {word: words}
    out: [shouted]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'printf "%s\n" "$1" | tr a-z A-Z', shout]
      inputs:
        word:
          type: string
          inputBinding: {position: 1}
      outputs:
        shouted: stdout
      stdout: shouted.txt

  collect:
    label: Join the results
    in: {parts: shout/shouted}
    out: [joined]
    run:
      class: CommandLineTool
      baseCommand: cat
      inputs:
        parts:
          type: File[]
          inputBinding: {position: 1}
      outputs:
        joined: stdout
      stdout: words.txt

outputs:
  joined:
    type: File
    outputSource: collect/joined
