# Made by `eoap-dask cwl generate` from the parameters of crop-chips: change those, not this.
cwlVersion: v1.2
$namespaces:
  s: https://schema.org/
  calrissian: https://calrissian-cwl.github.io/schema#
s:name: Training chips of crops from Sentinel-2
s:description: Cuts Sentinel-2 image chips and label masks from field polygons, with splits for training, validation
  and test, an index and a STAC catalog.
s:softwareVersion: 0.1.0.dev0
s:dateCreated: '2026-11-25'
s:license: https://spdx.org/licenses/MIT
s:keywords: [Sentinel-2, crops, training data, segmentation, EuroCrops, STAC, COG, Dask]
s:codeRepository: https://github.com/eoap/eoap-dask
s:releaseNotes: https://github.com/eoap/eoap-dask/blob/main/CHANGELOG.md
s:citation: eoap-dask 0.1.0.dev0, https://github.com/eoap/eoap-dask
s:softwareHelp:
  - '@type': s:CreativeWork
    s:name: CWL packages
    s:url: https://github.com/eoap/eoap-dask/blob/main/docs/cwl.md
s:publisher:
  '@type': s:Organization
  s:name: The eoap-dask developers
  s:url: https://github.com/eoap/eoap-dask
s:author:
  - '@type': s:Organization
    s:name: The eoap-dask developers
    s:url: https://github.com/eoap/eoap-dask
s:contributor:
  - '@type': s:Organization
    s:name: The eoap-dask developers
    s:url: https://github.com/eoap/eoap-dask
$graph:
  - class: Workflow
    id: training-chips
    label: Training chips of crops from Sentinel-2
    doc: Cuts Sentinel-2 image chips and label masks from field polygons, with splits for training, validation and
      test, an index and a STAC catalog.
    requirements:
      NetworkAccess:
        networkAccess: true
      ResourceRequirement:
        coresMin: 1
        coresMax: 2
        ramMin: 1024
        ramMax: 4096
    inputs:
      fields:
        type: File
        label: Fields
        doc: Vector file of field polygons, in any CRS.
      layer:
        type: string
        label: Layer
        doc: Layer of the file, where it has several.
        default: ''
      class-attribute:
        type: string
        label: Class attribute
        doc: Attribute that tells the crop, by code or name.
        default: EC_hcat_c
      classes:
        type: File?
        label: Classes
        doc: Table of classes, as CSV; without one the eight classes of EuroCrops' HCAT3 codes.
      other-class:
        type: int
        label: Other class
        doc: 'Value of fields whose crop is in no class: 0 or 255, which is ignored.'
        default: 0
      border-ignore:
        type: int
        label: Border ignore
        doc: Pixels on either side of a field's border that are 255, to be ignored.
        default: 0
      grid:
        type: int
        label: Grid
        doc: Rows, and columns, of cells over the extent of the fields, in their CRS.
        default: 10
      cell-size:
        type: double?
        label: Cell size
        doc: Side of square cells instead, in metres (in units of a projected CRS of the fields).
      cells:
        type: File?
        label: Cells
        doc: Vector file of polygons that are the cells, instead of a grid.
      min-fields:
        type: int
        label: Min fields
        doc: Cells with fewer fields are left out.
        default: 5
      max-chips:
        type: int
        label: Max chips
        doc: At most so many chips of a cell.
        default: 5
      chip-size:
        type: int
        label: Chip size
        doc: Side of a chip, in pixels.
        default: 256
      resolution:
        type: double
        label: Resolution
        doc: Side of a pixel, in units of the CRS.
        default: 10
      crs:
        type: string
        label: CRS
        doc: CRS of the chips; auto is the UTM zone that holds most of a cell.
        default: auto
      min-distance:
        type: double
        label: Min distance
        doc: Least distance between the middles of a cell's chips, in units of the CRS.
        default: 1280
      stratify:
        type:
          type: enum
          symbols: [stratify, no-stratify]
        label: Stratify
        doc: Choose the middles from each class in turn, or from all fields.
        default: no-stratify
      overlap:
        type:
          type: enum
          symbols: [overlap, no-overlap]
        label: Overlap
        doc: Let chips show some of the same ground, or none.
        default: overlap
      seed:
        type: int
        label: Seed
        doc: Decides which fields are chosen, and which split a chip is in.
        default: 0
      bands:
        type: string[]
        label: Bands
        doc: Band, by common name or asset key, in the order of the images.
        default: [blue, green, red, nir, rededge1, rededge2, rededge3, nir08, swir16, swir22]
      composite:
        type:
          type: enum
          symbols: [median, clearest-1]
        label: Composite
        doc: 'What an image is made of: the median of the clear passes, or the one with most clear pixels in the
          chip.'
        default: median
      cloud-mask:
        type:
          type: enum
          symbols: [scl, none]
        label: Cloud mask
        doc: Drop clouds and shadows pixel by pixel by the scene classification, or not.
        default: scl
      min-valid:
        type: double
        label: Min valid
        doc: Chips with a smaller share of pixels with data aren't written, but counted.
        default: 0.9
      legacy-names:
        type:
          type: enum
          symbols: [legacy-names, no-legacy-names]
        label: Legacy names
        doc: Name chips worker1_task{cell}_chip{n}, instead of cell{row}{column}_chip{n}.
        default: no-legacy-names
      split:
        type: double[]
        label: Split
        doc: 'Share of chips for training, validation and test: give it three times.'
        default: [0.7, 0.15, 0.15]
      split-block:
        type: int
        label: Split block
        doc: Side of the blocks of cells that are in one split together.
        default: 2
      split-buffer:
        type: double
        label: Split buffer
        doc: Least distance between chips of two splits, in metres; those that are nearer are in none.
        default: 0
      start-date:
        type: string
        label: Start date
        doc: First day, as YYYY-MM-DD.
        default: '2023-05-15'
      end-date:
        type: string
        label: End date
        doc: Last day, inclusive.
        default: '2023-06-30'
      collection:
        type: string
        label: Collection
        doc: STAC collection.
        default: sentinel-2-l2a
      stac:
        type: string
        label: STAC API
        doc: 'URL of what to search: a STAC API, or a static catalog, item collection, ndjson or stac-geoparquet.'
        default: https://earth-search.aws.element84.com/v1
      items:
        type: File?
        label: Items
        doc: 'File of items to use instead of a search: the items.json of an earlier run, an item collection, ndjson
          or stac-geoparquet.'
      max-items:
        type: int
        label: Max items
        doc: At most this many items are used for a cell, the latest; that is said.
        default: 1000
      max-cloud-cover:
        type: double
        label: Max cloud cover
        doc: Only scenes with less cloud than this, in percent.
        default: 10
      filter:
        type: string
        label: Filter
        doc: Only items for which this is true, in CQL2 (text or JSON), whatever is searched.
        default: ''
      on-odd-item:
        type:
          type: enum
          symbols: [skip, fail]
        label: On odd item
        doc: 'What becomes of items that lack what is needed (a time, a band, a projection, a baseline or an offset):
          skip sets them aside and names them, fail stops.'
        default: skip
    outputs:
      stac-catalog:
        type: Directory?
        label: STAC catalog
        doc: 'The directory that crop-chips made: a STAC catalog with its items and their assets.'
        outputSource: cut/stac-catalog
    steps:
      cut:
        label: Training chips of crops from Sentinel-2
        doc: Runs crop-chips on a Dask cluster.
        run: '#crop-chips'
        in:
          fields: fields
          layer: layer
          class-attribute: class-attribute
          classes: classes
          other-class: other-class
          border-ignore: border-ignore
          grid: grid
          cell-size: cell-size
          cells: cells
          min-fields: min-fields
          max-chips: max-chips
          chip-size: chip-size
          resolution: resolution
          crs: crs
          min-distance: min-distance
          stratify: stratify
          overlap: overlap
          seed: seed
          bands: bands
          composite: composite
          cloud-mask: cloud-mask
          min-valid: min-valid
          legacy-names: legacy-names
          split: split
          split-block: split-block
          split-buffer: split-buffer
          start-date: start-date
          end-date: end-date
          collection: collection
          stac: stac
          items: items
          max-items: max-items
          max-cloud-cover: max-cloud-cover
          filter: filter
          on-odd-item: on-odd-item
        out: [stac-catalog]
  - class: CommandLineTool
    id: crop-chips
    label: crop-chips
    doc: Cuts Sentinel-2 image chips and label masks from field polygons, with splits for training, validation and
      test, an index and a STAC catalog. Works on the Dask cluster that DASK_CLUSTER names.
    requirements:
      NetworkAccess:
        networkAccess: true
      ResourceRequirement:
        coresMin: 1
        coresMax: 2
        ramMin: 1024
        ramMax: 4096
      EnvVarRequirement:
        envDef:
          LOGNAME: eoap
      InlineJavascriptRequirement: {}
      calrissian:DaskGatewayRequirement:
        workerCores: 2
        workerCoresLimit: 2
        workerMemory: 4G
        clusterMaxCores: 8
        clusterMaxMemory: 16G
    hints:
      DockerRequirement:
        dockerPull: ghcr.io/eoap/eoap-dask:0.1.0.dev0
    baseCommand: crop-chips
    arguments: [--output-dir, crop-chips]
    inputs:
      fields:
        type: File
        label: Fields
        doc: Vector file of field polygons, in any CRS.
        inputBinding:
          position: 1
          prefix: --fields
      layer:
        type: string
        label: Layer
        doc: Layer of the file, where it has several.
        default: ''
        inputBinding:
          position: 2
          prefix: --layer
      class-attribute:
        type: string
        label: Class attribute
        doc: Attribute that tells the crop, by code or name.
        default: EC_hcat_c
        inputBinding:
          position: 3
          prefix: --class-attribute
      classes:
        type: File?
        label: Classes
        doc: Table of classes, as CSV; without one the eight classes of EuroCrops' HCAT3 codes.
        inputBinding:
          position: 4
          prefix: --classes
      other-class:
        type: int
        label: Other class
        doc: 'Value of fields whose crop is in no class: 0 or 255, which is ignored.'
        default: 0
        inputBinding:
          position: 5
          prefix: --other-class
      border-ignore:
        type: int
        label: Border ignore
        doc: Pixels on either side of a field's border that are 255, to be ignored.
        default: 0
        inputBinding:
          position: 6
          prefix: --border-ignore
      grid:
        type: int
        label: Grid
        doc: Rows, and columns, of cells over the extent of the fields, in their CRS.
        default: 10
        inputBinding:
          position: 7
          prefix: --grid
      cell-size:
        type: double?
        label: Cell size
        doc: Side of square cells instead, in metres (in units of a projected CRS of the fields).
        inputBinding:
          position: 8
          prefix: --cell-size
      cells:
        type: File?
        label: Cells
        doc: Vector file of polygons that are the cells, instead of a grid.
        inputBinding:
          position: 9
          prefix: --cells
      min-fields:
        type: int
        label: Min fields
        doc: Cells with fewer fields are left out.
        default: 5
        inputBinding:
          position: 10
          prefix: --min-fields
      max-chips:
        type: int
        label: Max chips
        doc: At most so many chips of a cell.
        default: 5
        inputBinding:
          position: 11
          prefix: --max-chips
      chip-size:
        type: int
        label: Chip size
        doc: Side of a chip, in pixels.
        default: 256
        inputBinding:
          position: 12
          prefix: --chip-size
      resolution:
        type: double
        label: Resolution
        doc: Side of a pixel, in units of the CRS.
        default: 10
        inputBinding:
          position: 13
          prefix: --resolution
      crs:
        type: string
        label: CRS
        doc: CRS of the chips; auto is the UTM zone that holds most of a cell.
        default: auto
        inputBinding:
          position: 14
          prefix: --crs
      min-distance:
        type: double
        label: Min distance
        doc: Least distance between the middles of a cell's chips, in units of the CRS.
        default: 1280
        inputBinding:
          position: 15
          prefix: --min-distance
      stratify:
        type:
          type: enum
          symbols: [stratify, no-stratify]
        label: Stratify
        doc: Choose the middles from each class in turn, or from all fields.
        default: no-stratify
        inputBinding:
          position: 16
          valueFrom: --$(self)
      overlap:
        type:
          type: enum
          symbols: [overlap, no-overlap]
        label: Overlap
        doc: Let chips show some of the same ground, or none.
        default: overlap
        inputBinding:
          position: 17
          valueFrom: --$(self)
      seed:
        type: int
        label: Seed
        doc: Decides which fields are chosen, and which split a chip is in.
        default: 0
        inputBinding:
          position: 18
          prefix: --seed
      bands:
        type:
          type: array
          items: string
          inputBinding:
            prefix: --bands
        label: Bands
        doc: Band, by common name or asset key, in the order of the images.
        default: [blue, green, red, nir, rededge1, rededge2, rededge3, nir08, swir16, swir22]
        inputBinding:
          position: 19
      composite:
        type:
          type: enum
          symbols: [median, clearest-1]
        label: Composite
        doc: 'What an image is made of: the median of the clear passes, or the one with most clear pixels in the
          chip.'
        default: median
        inputBinding:
          position: 20
          prefix: --composite
      cloud-mask:
        type:
          type: enum
          symbols: [scl, none]
        label: Cloud mask
        doc: Drop clouds and shadows pixel by pixel by the scene classification, or not.
        default: scl
        inputBinding:
          position: 21
          prefix: --cloud-mask
      min-valid:
        type: double
        label: Min valid
        doc: Chips with a smaller share of pixels with data aren't written, but counted.
        default: 0.9
        inputBinding:
          position: 22
          prefix: --min-valid
      legacy-names:
        type:
          type: enum
          symbols: [legacy-names, no-legacy-names]
        label: Legacy names
        doc: Name chips worker1_task{cell}_chip{n}, instead of cell{row}{column}_chip{n}.
        default: no-legacy-names
        inputBinding:
          position: 23
          valueFrom: --$(self)
      split:
        type:
          type: array
          items: double
          inputBinding:
            prefix: --split
        label: Split
        doc: 'Share of chips for training, validation and test: give it three times.'
        default: [0.7, 0.15, 0.15]
        inputBinding:
          position: 24
      split-block:
        type: int
        label: Split block
        doc: Side of the blocks of cells that are in one split together.
        default: 2
        inputBinding:
          position: 25
          prefix: --split-block
      split-buffer:
        type: double
        label: Split buffer
        doc: Least distance between chips of two splits, in metres; those that are nearer are in none.
        default: 0
        inputBinding:
          position: 26
          prefix: --split-buffer
      start-date:
        type: string
        label: Start date
        doc: First day, as YYYY-MM-DD.
        default: '2023-05-15'
        inputBinding:
          position: 27
          prefix: --start-date
      end-date:
        type: string
        label: End date
        doc: Last day, inclusive.
        default: '2023-06-30'
        inputBinding:
          position: 28
          prefix: --end-date
      collection:
        type: string
        label: Collection
        doc: STAC collection.
        default: sentinel-2-l2a
        inputBinding:
          position: 29
          prefix: --collection
      stac:
        type: string
        label: STAC API
        doc: 'URL of what to search: a STAC API, or a static catalog, item collection, ndjson or stac-geoparquet.'
        default: https://earth-search.aws.element84.com/v1
        inputBinding:
          position: 30
          prefix: --stac
      items:
        type: File?
        label: Items
        doc: 'File of items to use instead of a search: the items.json of an earlier run, an item collection, ndjson
          or stac-geoparquet.'
        inputBinding:
          position: 31
          prefix: --items
      max-items:
        type: int
        label: Max items
        doc: At most this many items are used for a cell, the latest; that is said.
        default: 1000
        inputBinding:
          position: 32
          prefix: --max-items
      max-cloud-cover:
        type: double
        label: Max cloud cover
        doc: Only scenes with less cloud than this, in percent.
        default: 10
        inputBinding:
          position: 33
          prefix: --max-cloud-cover
      filter:
        type: string
        label: Filter
        doc: Only items for which this is true, in CQL2 (text or JSON), whatever is searched.
        default: ''
        inputBinding:
          position: 34
          prefix: --filter
      on-odd-item:
        type:
          type: enum
          symbols: [skip, fail]
        label: On odd item
        doc: 'What becomes of items that lack what is needed (a time, a band, a projection, a baseline or an offset):
          skip sets them aside and names them, fail stops.'
        default: skip
        inputBinding:
          position: 35
          prefix: --on-odd-item
    outputs:
      stac-catalog:
        type: Directory?
        label: STAC catalog
        doc: 'The directory that crop-chips made: a STAC catalog with its items and their assets. It exists only
          when it is complete.'
        outputBinding:
          glob: crop-chips
          outputEval: |-
            ${
              if (self.length == 0 && !runtime.exitCode) {
                throw "crop-chips has failed: it left no output, whatever its exit code says. See its log.";
              }
              return self.length == 0 ? null : self[0];
            }
    temporaryFailCodes: [4, 5]
    permanentFailCodes: [1, 2, 3, 6]
