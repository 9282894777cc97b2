# Made by `eoap-dask cwl generate` from the parameters of change-detection: change those, not this.
cwlVersion: v1.2
$namespaces:
  s: https://schema.org/
  calrissian: https://calrissian-cwl.github.io/schema#
s:name: Change from year to year
s:description: 'Makes a cloud-free Sentinel-2 image of each grid cell for the same month of several years, and finds
  what changed from year to year: scores, masks and hectares, with a STAC catalog.'
s:softwareVersion: 0.1.0.dev0
s:dateCreated: '2026-11-25'
s:license: https://spdx.org/licenses/MIT
s:keywords: [Sentinel-2, change detection, CVA, IR-MAD, STAC, COG, Dask]
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
    id: yearly-changes
    label: Change from year to year
    doc: 'Makes a cloud-free Sentinel-2 image of each grid cell for the same month of several years, and finds what
      changed from year to year: scores, masks and hectares, with a STAC catalog.'
    requirements:
      NetworkAccess:
        networkAccess: true
      ResourceRequirement:
        coresMin: 1
        coresMax: 2
        ramMin: 1024
        ramMax: 4096
    inputs:
      grid:
        type: File?
        label: Grid
        doc: Vector file of polygons that are the cells, in any CRS and format of GDAL.
      grid-id-column:
        type: string
        label: Grid id column
        doc: 'Attribute that tells the cells apart: numbers or text.'
        default: id
      grid-ids:
        type: string
        label: Grid ids
        doc: 'Which cells: ids, and ranges of whole numbers, with commas between them, such as 463-468,471. Empty:
          all.'
        default: ''
      aoi:
        type: string
        label: Area of interest
        doc: 'Area that square cells are laid over where there is no grid: west, south, east and north in degrees,
          with commas between them; or GeoJSON or WKT, as text.'
        default: ''
      cell-size:
        type: double
        label: Cell size
        doc: Side of the cells over an area, in units of the CRS; their borders are at multiples of it.
        default: 5120
      clip:
        type:
          type: enum
          symbols: [clip, no-clip]
        label: Clip
        doc: Cut images to the outlines of cells, or keep their boxes.
        default: clip
      years:
        type: string
        label: Years
        doc: 'Years, two or more: a range, or a list with commas. Each is compared with the one before it in the
          list.'
        default: 2022-2024
      month:
        type: int
        label: Month
        doc: Month of the year whose passes make its image, 1 to 12.
        default: 8
      method:
        type:
          type: enum
          symbols: [cva, irmad, btc]
        label: Method
        doc: 'How change is found: robust change vector analysis, iteratively reweighted multivariate alteration
          detection, or the BTC network.'
        default: cva
      bands:
        type: string[]
        label: Bands
        doc: 'Band of the images, by common name or asset key, all of which are compared; btc compares red, green
          and blue of them. Where an item lacks nir08, all take nir. Empty: red, green, blue with btc, else blue,
          green, red, nir08, swir16, swir22.'
        default: []
      composite:
        type:
          type: enum
          symbols: [median]
        label: Composite
        doc: How the clear passes of a month become an image.
        default: median
      cloud-mask:
        type:
          type: enum
          symbols: [scl, none]
        label: Cloud mask
        doc: Drop clouds and shadows pixel by pixel by the scene classification, or not.
        default: scl
      min-pixels:
        type: int
        label: Min pixels
        doc: Smaller patches of change are left out of the mask, in pixels.
        default: 6
      least-mad:
        type: double
        label: Least mad
        doc: 'Floor of a band''s median absolute deviation with cva, in reflectance × 10000: noise that is borne
          even where most pixels are equal.'
        default: 20
      rounds:
        type: int
        label: Rounds
        doc: Passes over all pixels with irmad, at most.
        default: 30
      weights:
        type: File?
        label: Weights
        doc: 'Weights of the network for btc: a file of safetensors, or a checkpoint of Lightning. Without one,
          those of blaz-r/BTC-B_oscd96 are fetched from the hub.'
      threshold:
        type: double
        label: Threshold
        doc: Probability above which a pixel has changed, 0 to 1; 0.5 was published.
        default: 0.2
      window:
        type: int
        label: Window
        doc: Side of the windows that the network sees, in pixels, a multiple of 32; smaller ones than 256 are enlarged
          to it. The published weights saw 96.
        default: 256
      stretch:
        type: string
        label: Stretch
        doc: Reflectances that become black and white, with a comma between them.
        default: 0,0.3
      device:
        type:
          type: enum
          symbols: [cpu, cuda, auto]
        label: Device
        doc: Where workers run the network; auto is CUDA where a worker has it, whose bytes may differ.
        default: cpu
      batch-size:
        type: int
        label: Batch size
        doc: Windows that are asked at once on CUDA; on processors it is one.
        default: 8
      torch-threads:
        type: int
        label: Torch threads
        doc: Threads of PyTorch for a window; workers do several at once.
        default: 1
      resolution:
        type: double
        label: Resolution
        doc: Side of a pixel, in units of the CRS.
        default: 10
      crs:
        type: string
        label: CRS
        doc: CRS of the images, in which areas are true; auto is a cell's UTM zone.
        default: auto
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
        doc: At most this many items are used for a cell and year, the latest; it is said.
        default: 1000
      max-cloud-cover:
        type: double
        label: Max cloud cover
        doc: Only scenes with less cloud than this, in percent.
        default: 60
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
        doc: 'The directory that change-detection made: a STAC catalog with its items and their assets.'
        outputSource: compare/stac-catalog
    steps:
      compare:
        label: Change from year to year
        doc: Runs change-detection on a Dask cluster.
        run: '#change-detection'
        in:
          grid: grid
          grid-id-column: grid-id-column
          grid-ids: grid-ids
          aoi: aoi
          cell-size: cell-size
          clip: clip
          years: years
          month: month
          method: method
          bands: bands
          composite: composite
          cloud-mask: cloud-mask
          min-pixels: min-pixels
          least-mad: least-mad
          rounds: rounds
          weights: weights
          threshold: threshold
          window: window
          stretch: stretch
          device: device
          batch-size: batch-size
          torch-threads: torch-threads
          resolution: resolution
          crs: crs
          collection: collection
          stac: stac
          items: items
          max-items: max-items
          max-cloud-cover: max-cloud-cover
          filter: filter
          on-odd-item: on-odd-item
        out: [stac-catalog]
  - class: CommandLineTool
    id: change-detection
    label: change-detection
    doc: 'Makes a cloud-free Sentinel-2 image of each grid cell for the same month of several years, and finds what
      changed from year to year: scores, masks and hectares, with a STAC catalog. Works on the Dask cluster that
      DASK_CLUSTER names.'
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
        dockerPull: ghcr.io/eoap/eoap-dask:0.1.0.dev0-btc
    baseCommand: change-detection
    arguments: [--output-dir, changes]
    inputs:
      grid:
        type: File?
        label: Grid
        doc: Vector file of polygons that are the cells, in any CRS and format of GDAL.
        inputBinding:
          position: 1
          prefix: --grid
      grid-id-column:
        type: string
        label: Grid id column
        doc: 'Attribute that tells the cells apart: numbers or text.'
        default: id
        inputBinding:
          position: 2
          prefix: --grid-id-column
      grid-ids:
        type: string
        label: Grid ids
        doc: 'Which cells: ids, and ranges of whole numbers, with commas between them, such as 463-468,471. Empty:
          all.'
        default: ''
        inputBinding:
          position: 3
          prefix: --grid-ids
      aoi:
        type: string
        label: Area of interest
        doc: 'Area that square cells are laid over where there is no grid: west, south, east and north in degrees,
          with commas between them; or GeoJSON or WKT, as text.'
        default: ''
        inputBinding:
          position: 4
          prefix: --aoi
      cell-size:
        type: double
        label: Cell size
        doc: Side of the cells over an area, in units of the CRS; their borders are at multiples of it.
        default: 5120
        inputBinding:
          position: 5
          prefix: --cell-size
      clip:
        type:
          type: enum
          symbols: [clip, no-clip]
        label: Clip
        doc: Cut images to the outlines of cells, or keep their boxes.
        default: clip
        inputBinding:
          position: 6
          valueFrom: --$(self)
      years:
        type: string
        label: Years
        doc: 'Years, two or more: a range, or a list with commas. Each is compared with the one before it in the
          list.'
        default: 2022-2024
        inputBinding:
          position: 7
          prefix: --years
      month:
        type: int
        label: Month
        doc: Month of the year whose passes make its image, 1 to 12.
        default: 8
        inputBinding:
          position: 8
          prefix: --month
      method:
        type:
          type: enum
          symbols: [cva, irmad, btc]
        label: Method
        doc: 'How change is found: robust change vector analysis, iteratively reweighted multivariate alteration
          detection, or the BTC network.'
        default: cva
        inputBinding:
          position: 9
          prefix: --method
      bands:
        type:
          type: array
          items: string
          inputBinding:
            prefix: --bands
        label: Bands
        doc: 'Band of the images, by common name or asset key, all of which are compared; btc compares red, green
          and blue of them. Where an item lacks nir08, all take nir. Empty: red, green, blue with btc, else blue,
          green, red, nir08, swir16, swir22.'
        default: []
        inputBinding:
          position: 10
      composite:
        type:
          type: enum
          symbols: [median]
        label: Composite
        doc: How the clear passes of a month become an image.
        default: median
        inputBinding:
          position: 11
          prefix: --composite
      cloud-mask:
        type:
          type: enum
          symbols: [scl, none]
        label: Cloud mask
        doc: Drop clouds and shadows pixel by pixel by the scene classification, or not.
        default: scl
        inputBinding:
          position: 12
          prefix: --cloud-mask
      min-pixels:
        type: int
        label: Min pixels
        doc: Smaller patches of change are left out of the mask, in pixels.
        default: 6
        inputBinding:
          position: 13
          prefix: --min-pixels
      least-mad:
        type: double
        label: Least mad
        doc: 'Floor of a band''s median absolute deviation with cva, in reflectance × 10000: noise that is borne
          even where most pixels are equal.'
        default: 20
        inputBinding:
          position: 14
          prefix: --least-mad
      rounds:
        type: int
        label: Rounds
        doc: Passes over all pixels with irmad, at most.
        default: 30
        inputBinding:
          position: 15
          prefix: --rounds
      weights:
        type: File?
        label: Weights
        doc: 'Weights of the network for btc: a file of safetensors, or a checkpoint of Lightning. Without one,
          those of blaz-r/BTC-B_oscd96 are fetched from the hub.'
        inputBinding:
          position: 16
          prefix: --weights
      threshold:
        type: double
        label: Threshold
        doc: Probability above which a pixel has changed, 0 to 1; 0.5 was published.
        default: 0.2
        inputBinding:
          position: 17
          prefix: --threshold
      window:
        type: int
        label: Window
        doc: Side of the windows that the network sees, in pixels, a multiple of 32; smaller ones than 256 are enlarged
          to it. The published weights saw 96.
        default: 256
        inputBinding:
          position: 18
          prefix: --window
      stretch:
        type: string
        label: Stretch
        doc: Reflectances that become black and white, with a comma between them.
        default: 0,0.3
        inputBinding:
          position: 19
          prefix: --stretch
      device:
        type:
          type: enum
          symbols: [cpu, cuda, auto]
        label: Device
        doc: Where workers run the network; auto is CUDA where a worker has it, whose bytes may differ.
        default: cpu
        inputBinding:
          position: 20
          prefix: --device
      batch-size:
        type: int
        label: Batch size
        doc: Windows that are asked at once on CUDA; on processors it is one.
        default: 8
        inputBinding:
          position: 21
          prefix: --batch-size
      torch-threads:
        type: int
        label: Torch threads
        doc: Threads of PyTorch for a window; workers do several at once.
        default: 1
        inputBinding:
          position: 22
          prefix: --torch-threads
      resolution:
        type: double
        label: Resolution
        doc: Side of a pixel, in units of the CRS.
        default: 10
        inputBinding:
          position: 23
          prefix: --resolution
      crs:
        type: string
        label: CRS
        doc: CRS of the images, in which areas are true; auto is a cell's UTM zone.
        default: auto
        inputBinding:
          position: 24
          prefix: --crs
      collection:
        type: string
        label: Collection
        doc: STAC collection.
        default: sentinel-2-l2a
        inputBinding:
          position: 25
          prefix: --collection
      stac:
        type: string
        label: STAC API
        doc: 'URL of what to search: a STAC API, or a static catalog, item collection, ndjson or stac-geoparquet.'
        default: https://earth-search.aws.element84.com/v1
        inputBinding:
          position: 26
          prefix: --stac
      items:
        type: File?
        label: Items
        doc: 'File of items to use instead of a search: the items.json of an earlier run, an item collection, ndjson
          or stac-geoparquet.'
        inputBinding:
          position: 27
          prefix: --items
      max-items:
        type: int
        label: Max items
        doc: At most this many items are used for a cell and year, the latest; it is said.
        default: 1000
        inputBinding:
          position: 28
          prefix: --max-items
      max-cloud-cover:
        type: double
        label: Max cloud cover
        doc: Only scenes with less cloud than this, in percent.
        default: 60
        inputBinding:
          position: 29
          prefix: --max-cloud-cover
      filter:
        type: string
        label: Filter
        doc: Only items for which this is true, in CQL2 (text or JSON), whatever is searched.
        default: ''
        inputBinding:
          position: 30
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
          position: 31
          prefix: --on-odd-item
    outputs:
      stac-catalog:
        type: Directory?
        label: STAC catalog
        doc: 'The directory that change-detection made: a STAC catalog with its items and their assets. It exists
          only when it is complete.'
        outputBinding:
          glob: changes
          outputEval: |-
            ${
              if (self.length == 0 && !runtime.exitCode) {
                throw "change-detection has failed: it left no output, whatever its exit code says. See its log.";
              }
              return self.length == 0 ? null : self[0];
            }
    temporaryFailCodes: [4, 5]
    permanentFailCodes: [1, 2, 3, 6]
