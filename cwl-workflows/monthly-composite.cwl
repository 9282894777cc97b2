# Made by `eoap-dask cwl generate` from the parameters of cloudless-mosaic: change those, not this.
cwlVersion: v1.2
$namespaces:
  s: https://schema.org/
  calrissian: https://calrissian-cwl.github.io/schema#
s:name: Cloud-free Sentinel-2 mosaics
s:description: Searches a STAC API for Sentinel-2 scenes, drops clouds and their shadows pixel by pixel, and writes
  one mosaic of surface reflectance per month, or other period, as a Cloud-Optimized GeoTIFF, with a STAC catalog.
s:softwareVersion: 0.1.0.dev0
s:dateCreated: '2026-11-25'
s:license: https://spdx.org/licenses/MIT
s:keywords: [Sentinel-2, mosaic, composite, cloud-free, surface reflectance, STAC, COG, Dask]
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
    id: monthly-composite
    label: Cloud-free Sentinel-2 mosaics
    doc: Searches a STAC API for Sentinel-2 scenes, drops clouds and their shadows pixel by pixel, and writes one
      mosaic of surface reflectance per month, or other period, as a Cloud-Optimized GeoTIFF, with a STAC catalog.
    requirements:
      NetworkAccess:
        networkAccess: true
      ResourceRequirement:
        coresMin: 1
        coresMax: 2
        ramMin: 1024
        ramMax: 4096
    inputs:
      start-date:
        type: string
        label: Start date
        doc: First day, as YYYY-MM-DD.
        default: '2020-10-01'
      end-date:
        type: string
        label: End date
        doc: Last day, inclusive.
        default: '2020-12-31'
      aoi:
        type: string
        label: Area of interest
        doc: West, south, east and north in degrees, with commas between them; or GeoJSON or WKT, as text.
        default: -122.27508544921875,47.54687159892238,-121.96128845214844,47.745787772920934
      clip:
        type:
          type: enum
          symbols: [clip, no-clip]
        label: Clip
        doc: Cut to the shape of the area, or keep its bounding box.
        default: clip
      bands:
        type: string[]
        label: Bands
        doc: Band, by common name or asset key.
        default: [nir, red, green]
      collection:
        type: string
        label: Collection
        doc: STAC collection.
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
        default: 100
      crs:
        type: string
        label: CRS
        doc: CRS of the output; auto is the UTM zone that holds most of the area.
        default: auto
      max-items:
        type: int
        label: Max items
        doc: At most this many items are used; reaching it is said and recorded.
        default: 1000
      max-cloud-cover:
        type: double
        label: Max cloud cover
        doc: Only scenes with less cloud than this, in percent.
        default: 25
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
      period:
        type: string
        label: Period
        doc: 'What one mosaic is of: monthly, weekly (of ISO 8601), dekad, seasonal (three months from December
          on), yearly, all (of the dates), or a number of days from the first one on, such as 10d.'
        default: monthly
      composite:
        type: string
        label: Composite
        doc: 'How the clear observations of a period become one: median, mean or percentile:25 of each band; medoid,
          geomedian, max-ndvi or latest of all bands together; clearest-3, the median of the passes with most clear
          pixels.'
        default: median
      date-band:
        type:
          type: enum
          symbols: [date-band, no-date-band]
        label: Date band
        doc: 'Also write on which day each pixel was seen (date.tif, days since 1970-01-01), where the composite
          picks an observation: medoid, max-ndvi, latest, clearest-1.'
        default: no-date-band
      index:
        type: string[]
        label: Index
        doc: 'Also write an index of each composite (float32): ndvi, evi, savi, ndwi, mndwi, ndmi, nbr, bai, or
          an expression of bands such as (nir-red)/(nir+red), or NAME=EXPRESSION.'
        default: []
      cloud-mask:
        type:
          type: enum
          symbols: [scl, none]
        label: Cloud mask
        doc: Drop clouds and shadows pixel by pixel by the scene classification, or not.
        default: scl
      mask-classes:
        type: string
        label: Mask classes
        doc: 'Codes of the classes that are dropped instead, with commas between them, such as 3,8,9,10. [default:
          no data, saturated, shadows, clouds, cirrus]'
        default: ''
    outputs:
      stac-catalog:
        type: Directory?
        label: STAC catalog
        doc: 'The directory that cloudless-mosaic made: a STAC catalog with its items and their assets.'
        outputSource: mosaic/stac-catalog
    steps:
      mosaic:
        label: Cloud-free Sentinel-2 mosaics
        doc: Runs cloudless-mosaic on a Dask cluster.
        run: '#cloudless-mosaic'
        in:
          start-date: start-date
          end-date: end-date
          aoi: aoi
          clip: clip
          bands: bands
          collection: collection
          stac: stac
          items: items
          resolution: resolution
          crs: crs
          max-items: max-items
          max-cloud-cover: max-cloud-cover
          filter: filter
          on-odd-item: on-odd-item
          period: period
          composite: composite
          date-band: date-band
          index: index
          cloud-mask: cloud-mask
          mask-classes: mask-classes
        out: [stac-catalog]
  - class: CommandLineTool
    id: cloudless-mosaic
    label: cloudless-mosaic
    doc: Searches a STAC API for Sentinel-2 scenes, drops clouds and their shadows pixel by pixel, and writes one
      mosaic of surface reflectance per month, or other period, as a Cloud-Optimized GeoTIFF, with a STAC catalog.
      Works on the Dask cluster that DASK_CLUSTER names.
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
    baseCommand: cloudless-mosaic
    arguments: [--output-dir, monthly-mosaic]
    inputs:
      start-date:
        type: string
        label: Start date
        doc: First day, as YYYY-MM-DD.
        default: '2020-10-01'
        inputBinding:
          position: 1
          prefix: --start-date
      end-date:
        type: string
        label: End date
        doc: Last day, inclusive.
        default: '2020-12-31'
        inputBinding:
          position: 2
          prefix: --end-date
      aoi:
        type: string
        label: Area of interest
        doc: West, south, east and north in degrees, with commas between them; or GeoJSON or WKT, as text.
        default: -122.27508544921875,47.54687159892238,-121.96128845214844,47.745787772920934
        inputBinding:
          position: 3
          prefix: --aoi
      clip:
        type:
          type: enum
          symbols: [clip, no-clip]
        label: Clip
        doc: Cut to the shape of the area, or keep its bounding box.
        default: clip
        inputBinding:
          position: 4
          valueFrom: --$(self)
      bands:
        type:
          type: array
          items: string
          inputBinding:
            prefix: --bands
        label: Bands
        doc: Band, by common name or asset key.
        default: [nir, red, green]
        inputBinding:
          position: 5
      collection:
        type: string
        label: Collection
        doc: STAC collection.
        default: sentinel-2-l2a
        inputBinding:
          position: 6
          prefix: --collection
      stac:
        type: string
        label: STAC API
        doc: 'URL of what to search: a STAC API, or a static catalog, item collection, ndjson or stac-geoparquet.'
        default: https://planetarycomputer.microsoft.com/api/stac/v1
        inputBinding:
          position: 7
          prefix: --stac
      items:
        type: File?
        label: Items
        doc: 'File of items to use instead of a search: the items.json of an earlier run, an item collection, ndjson
          or stac-geoparquet.'
        inputBinding:
          position: 8
          prefix: --items
      resolution:
        type: double
        label: Resolution
        doc: Side of a pixel, in units of the CRS.
        default: 100
        inputBinding:
          position: 9
          prefix: --resolution
      crs:
        type: string
        label: CRS
        doc: CRS of the output; auto is the UTM zone that holds most of the area.
        default: auto
        inputBinding:
          position: 10
          prefix: --crs
      max-items:
        type: int
        label: Max items
        doc: At most this many items are used; reaching it is said and recorded.
        default: 1000
        inputBinding:
          position: 11
          prefix: --max-items
      max-cloud-cover:
        type: double
        label: Max cloud cover
        doc: Only scenes with less cloud than this, in percent.
        default: 25
        inputBinding:
          position: 12
          prefix: --max-cloud-cover
      filter:
        type: string
        label: Filter
        doc: Only items for which this is true, in CQL2 (text or JSON), whatever is searched.
        default: ''
        inputBinding:
          position: 13
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
          position: 14
          prefix: --on-odd-item
      period:
        type: string
        label: Period
        doc: 'What one mosaic is of: monthly, weekly (of ISO 8601), dekad, seasonal (three months from December
          on), yearly, all (of the dates), or a number of days from the first one on, such as 10d.'
        default: monthly
        inputBinding:
          position: 15
          prefix: --period
      composite:
        type: string
        label: Composite
        doc: 'How the clear observations of a period become one: median, mean or percentile:25 of each band; medoid,
          geomedian, max-ndvi or latest of all bands together; clearest-3, the median of the passes with most clear
          pixels.'
        default: median
        inputBinding:
          position: 16
          prefix: --composite
      date-band:
        type:
          type: enum
          symbols: [date-band, no-date-band]
        label: Date band
        doc: 'Also write on which day each pixel was seen (date.tif, days since 1970-01-01), where the composite
          picks an observation: medoid, max-ndvi, latest, clearest-1.'
        default: no-date-band
        inputBinding:
          position: 17
          valueFrom: --$(self)
      index:
        type:
          type: array
          items: string
          inputBinding:
            prefix: --index
        label: Index
        doc: 'Also write an index of each composite (float32): ndvi, evi, savi, ndwi, mndwi, ndmi, nbr, bai, or
          an expression of bands such as (nir-red)/(nir+red), or NAME=EXPRESSION.'
        default: []
        inputBinding:
          position: 18
      cloud-mask:
        type:
          type: enum
          symbols: [scl, none]
        label: Cloud mask
        doc: Drop clouds and shadows pixel by pixel by the scene classification, or not.
        default: scl
        inputBinding:
          position: 19
          prefix: --cloud-mask
      mask-classes:
        type: string
        label: Mask classes
        doc: 'Codes of the classes that are dropped instead, with commas between them, such as 3,8,9,10. [default:
          no data, saturated, shadows, clouds, cirrus]'
        default: ''
        inputBinding:
          position: 20
          prefix: --mask-classes
    outputs:
      stac-catalog:
        type: Directory?
        label: STAC catalog
        doc: 'The directory that cloudless-mosaic made: a STAC catalog with its items and their assets. It exists
          only when it is complete.'
        outputBinding:
          glob: monthly-mosaic
          outputEval: |-
            ${
              if (self.length == 0 && !runtime.exitCode) {
                throw "cloudless-mosaic has failed: it left no output, whatever its exit code says. See its log.";
              }
              return self.length == 0 ? null : self[0];
            }
    temporaryFailCodes: [4, 5]
    permanentFailCodes: [1, 2, 3, 6]
