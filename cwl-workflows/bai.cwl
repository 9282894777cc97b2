# Made by `eoap-dask cwl generate` from the parameters of bai: change those, not this.
cwlVersion: v1.2
$namespaces:
  s: https://schema.org/
  calrissian: https://calrissian-cwl.github.io/schema#
s:name: Burned area from Sentinel-2
s:description: Compares two Sentinel-2 scenes, one before and one after a fire, and writes burn indices, classes
  of burn severity, perimeters and hectares, with a STAC catalog.
s:softwareVersion: 0.1.0.dev0
s:dateCreated: '2026-11-25'
s:license: https://spdx.org/licenses/MIT
s:keywords: [Sentinel-2, burned area, burn severity, BAI, dNBR, wildfire, STAC, COG, Dask]
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
    id: burned-area
    label: Burned area from Sentinel-2
    doc: Compares two Sentinel-2 scenes, one before and one after a fire, and writes burn indices, classes of burn
      severity, perimeters and hectares, with a STAC catalog.
    requirements:
      NetworkAccess:
        networkAccess: true
      ResourceRequirement:
        coresMin: 1
        coresMax: 2
        ramMin: 1024
        ramMax: 4096
    inputs:
      pre-fire-url:
        type: string
        label: Pre fire URL
        doc: 'URL of the STAC item of a scene before the fire; empty: pre-date and a search.'
        default: ''
      post-fire-url:
        type: string
        label: Post fire URL
        doc: 'URL of the STAC item of a scene after the fire; empty: post-date and a search.'
        default: ''
      pre-date:
        type: string
        label: Pre date
        doc: Last day before the fire, as YYYY-MM-DD.
        default: '2021-07-13'
      post-date:
        type: string
        label: Post date
        doc: First day after the fire.
        default: '2021-08-12'
      window-days:
        type: int
        label: Window days
        doc: How many days up to pre-date, and from post-date on, are searched for the clearest pass.
        default: 20
      aoi:
        type: string
        label: Area of interest
        doc: 'West, south, east and north in degrees, with commas between them; or GeoJSON or WKT, as text. Empty:
          what both items show, or for a search a small area in California.'
        default: ''
      clip:
        type:
          type: enum
          symbols: [clip, no-clip]
        label: Clip
        doc: Cut to the shape of the area, or keep its bounding box.
        default: clip
      threshold:
        type: double[]
        label: Thresholds
        doc: 'dNBR at which the second to the last class of severity begin: give it six times, rising. Burned is
          what is in the last four classes.'
        default: [-0.25, -0.1, 0.1, 0.27, 0.44, 0.66]
      min-area-ha:
        type: double
        label: Min area ha
        doc: Burned areas smaller than this have no perimeter, in hectares; 0 outlines every pixel.
        default: 1
      force:
        type:
          type: enum
          symbols: [force, no-force]
        label: Force
        doc: Compare scenes of different sensors.
        default: no-force
      collection:
        type: string
        label: Collection
        doc: STAC collection, for a search, or of named items that don't say theirs.
        default: sentinel-2-l2a
      stac:
        type: string
        label: STAC API
        doc: 'URL of what to search: a STAC API, or a static catalog, item collection, ndjson or stac-geoparquet.'
        default: https://planetarycomputer.microsoft.com/api/stac/v1
      items:
        type: File?
        label: Items
        doc: 'File of items to use instead of a search: the items.json of an earlier run, an item collection, ndjson
          or stac-geoparquet.'
      resolution:
        type: double
        label: Resolution
        doc: Side of a pixel, in units of the CRS.
        default: 10
      crs:
        type: string
        label: CRS
        doc: CRS of the output, in which areas are true; auto is the UTM zone that holds most of the area.
        default: auto
      max-items:
        type: int
        label: Max items
        doc: At most this many items are looked at; reaching it is said.
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
        doc: 'The directory that bai made: a STAC catalog with its items and their assets.'
        outputSource: compare/stac-catalog
    steps:
      compare:
        label: Burned area from Sentinel-2
        doc: Runs bai on a Dask cluster.
        run: '#bai'
        in:
          pre-fire-url: pre-fire-url
          post-fire-url: post-fire-url
          pre-date: pre-date
          post-date: post-date
          window-days: window-days
          aoi: aoi
          clip: clip
          threshold: threshold
          min-area-ha: min-area-ha
          force: force
          collection: collection
          stac: stac
          items: items
          resolution: resolution
          crs: crs
          max-items: max-items
          max-cloud-cover: max-cloud-cover
          filter: filter
          on-odd-item: on-odd-item
        out: [stac-catalog]
  - class: CommandLineTool
    id: bai
    label: bai
    doc: Compares two Sentinel-2 scenes, one before and one after a fire, and writes burn indices, classes of burn
      severity, perimeters and hectares, with a STAC catalog. Works on the Dask cluster that DASK_CLUSTER names.
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
    baseCommand: bai
    arguments: [--output-dir, burned-area]
    inputs:
      pre-fire-url:
        type: string
        label: Pre fire URL
        doc: 'URL of the STAC item of a scene before the fire; empty: pre-date and a search.'
        default: ''
        inputBinding:
          position: 1
          prefix: --pre-fire-url
      post-fire-url:
        type: string
        label: Post fire URL
        doc: 'URL of the STAC item of a scene after the fire; empty: post-date and a search.'
        default: ''
        inputBinding:
          position: 2
          prefix: --post-fire-url
      pre-date:
        type: string
        label: Pre date
        doc: Last day before the fire, as YYYY-MM-DD.
        default: '2021-07-13'
        inputBinding:
          position: 3
          prefix: --pre-date
      post-date:
        type: string
        label: Post date
        doc: First day after the fire.
        default: '2021-08-12'
        inputBinding:
          position: 4
          prefix: --post-date
      window-days:
        type: int
        label: Window days
        doc: How many days up to pre-date, and from post-date on, are searched for the clearest pass.
        default: 20
        inputBinding:
          position: 5
          prefix: --window-days
      aoi:
        type: string
        label: Area of interest
        doc: 'West, south, east and north in degrees, with commas between them; or GeoJSON or WKT, as text. Empty:
          what both items show, or for a search a small area in California.'
        default: ''
        inputBinding:
          position: 6
          prefix: --aoi
      clip:
        type:
          type: enum
          symbols: [clip, no-clip]
        label: Clip
        doc: Cut to the shape of the area, or keep its bounding box.
        default: clip
        inputBinding:
          position: 7
          valueFrom: --$(self)
      threshold:
        type:
          type: array
          items: double
          inputBinding:
            prefix: --threshold
        label: Thresholds
        doc: 'dNBR at which the second to the last class of severity begin: give it six times, rising. Burned is
          what is in the last four classes.'
        default: [-0.25, -0.1, 0.1, 0.27, 0.44, 0.66]
        inputBinding:
          position: 8
      min-area-ha:
        type: double
        label: Min area ha
        doc: Burned areas smaller than this have no perimeter, in hectares; 0 outlines every pixel.
        default: 1
        inputBinding:
          position: 9
          prefix: --min-area-ha
      force:
        type:
          type: enum
          symbols: [force, no-force]
        label: Force
        doc: Compare scenes of different sensors.
        default: no-force
        inputBinding:
          position: 10
          valueFrom: --$(self)
      collection:
        type: string
        label: Collection
        doc: STAC collection, for a search, or of named items that don't say theirs.
        default: sentinel-2-l2a
        inputBinding:
          position: 11
          prefix: --collection
      stac:
        type: string
        label: STAC API
        doc: 'URL of what to search: a STAC API, or a static catalog, item collection, ndjson or stac-geoparquet.'
        default: https://planetarycomputer.microsoft.com/api/stac/v1
        inputBinding:
          position: 12
          prefix: --stac
      items:
        type: File?
        label: Items
        doc: 'File of items to use instead of a search: the items.json of an earlier run, an item collection, ndjson
          or stac-geoparquet.'
        inputBinding:
          position: 13
          prefix: --items
      resolution:
        type: double
        label: Resolution
        doc: Side of a pixel, in units of the CRS.
        default: 10
        inputBinding:
          position: 14
          prefix: --resolution
      crs:
        type: string
        label: CRS
        doc: CRS of the output, in which areas are true; auto is the UTM zone that holds most of the area.
        default: auto
        inputBinding:
          position: 15
          prefix: --crs
      max-items:
        type: int
        label: Max items
        doc: At most this many items are looked at; reaching it is said.
        default: 1000
        inputBinding:
          position: 16
          prefix: --max-items
      max-cloud-cover:
        type: double
        label: Max cloud cover
        doc: Only scenes with less cloud than this, in percent.
        default: 60
        inputBinding:
          position: 17
          prefix: --max-cloud-cover
      filter:
        type: string
        label: Filter
        doc: Only items for which this is true, in CQL2 (text or JSON), whatever is searched.
        default: ''
        inputBinding:
          position: 18
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
          position: 19
          prefix: --on-odd-item
    outputs:
      stac-catalog:
        type: Directory?
        label: STAC catalog
        doc: 'The directory that bai made: a STAC catalog with its items and their assets. It exists only when it
          is complete.'
        outputBinding:
          glob: burned-area
          outputEval: |-
            ${
              if (self.length == 0 && !runtime.exitCode) {
                throw "bai has failed: it left no output, whatever its exit code says. See its log.";
              }
              return self.length == 0 ? null : self[0];
            }
    temporaryFailCodes: [4, 5]
    permanentFailCodes: [1, 2, 3, 6]
