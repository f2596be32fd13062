# SPDX-License-Identifier: Apache-2.0
cwlVersion: v1.2
class: ExpressionTool
label: Even out background and noise
doc: |
  Gives each tile the median background and the median noise of itself and the tiles around it. A tile full of emission
  takes part of it for background; its emptier neighbours put that right, and sources that cross a border meet nearly
  the same threshold on both sides.

requirements:
  InlineJavascriptRequirement:
    expressionLib:
      - |
        function median(values) {
          var sorted = values.slice().sort(function (a, b) { return a - b; });
          var half = Math.floor(sorted.length / 2);
          return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
        }
        function round(value, digits) {
          return Math.round(value * Math.pow(10, digits)) / Math.pow(10, digits);
        }
        function adjacent(one, other) {
          return one.x0 <= other.x0 + other.width && other.x0 <= one.x0 + one.width
            && one.y0 <= other.y0 + other.height && other.y0 <= one.y0 + one.height;
        }
        function levelled(tile, tiles) {
          var around = tiles.filter(function (other) { return adjacent(tile, other); });
          var level = {};
          Object.keys(tile).forEach(function (key) { level[key] = tile[key]; });
          level.background = round(median(around.map(function (other) { return other.background; })), 8);
          level.rms = round(median(around.map(function (other) { return other.rms; })), 8);
          level.snr = round((tile.peak - level.background) / level.rms, 3);
          return level;
        }

inputs:
  measured:
    label: Each tile's measurements (JSON)
    type: File[]
    loadContents: true

expression: |
  ${
    var tiles = inputs.measured.map(function (file) { return JSON.parse(file.contents); });
    var levels = tiles.map(function (tile) { return levelled(tile, tiles); });
    return {
      background: levels.map(function (level) { return level.background; }),
      rms: levels.map(function (level) { return level.rms; }),
      snr: levels.map(function (level) { return level.snr; }),
      levels: {class: "File", basename: "levels.json", contents: JSON.stringify(levels, null, 1) + "\n"}
    };
  }

outputs:
  background:
    label: Each tile's background, in Jy/beam
    type: float[]
  rms:
    label: Each tile's noise, in Jy/beam
    type: float[]
  snr:
    label: Each tile's peak above the background, in sigma
    type: float[]
  levels:
    label: All of it in one file (JSON)
    type: File
