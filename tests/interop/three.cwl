# Three kinds of step: a container tool with a file from the web; a script with its files, scattered; a plain tool
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}, InlineJavascriptRequirement: {}}
inputs:
  remote: File
  words: File[]
outputs:
  report: {type: File, outputSource: join/report}
  said: {type: File, outputSource: count/said}
steps:
  count:
    in: {table: remote}
    out: [counted, said]
    run:
      class: CommandLineTool
      hints: {DockerRequirement: {dockerPull: "docker.io/library/alpine:latest"}}
      baseCommand: [sh, -c, 'wc -l < "$0"; basename "$0" >&2']
      inputs: {table: {type: File, inputBinding: {position: 1}}}
      stdout: counted.txt
      stderr: said.txt
      outputs: {counted: stdout, said: stderr}
  shout:
    scatter: word
    in: {word: words}
    out: [loud]
    run:
      class: CommandLineTool
      hints: {DockerRequirement: {dockerPull: "docker.io/library/alpine:latest"}}
      requirements:
        InitialWorkDirRequirement:
          listing: [{entryname: shout.sh, entry: 'tr a-z A-Z < "$1" > loud.txt; echo done with $1; echo "no trouble" >&2'}]
      baseCommand: [sh, shout.sh]
      inputs: {word: {type: File, inputBinding: {position: 1}}}
      outputs: {loud: {type: File, outputBinding: {glob: loud.txt}}}
  join:
    in: {parts: shout/loud, counted: count/counted}
    out: [report]
    run:
      class: CommandLineTool
      baseCommand: cat
      arguments: [$(inputs.counted), $(inputs.parts)]
      inputs: {parts: "File[]", counted: File}
      stdout: report.txt
      outputs: {report: stdout}
