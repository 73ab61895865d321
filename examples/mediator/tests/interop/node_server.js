// A CoAP server of npm's `coap` that keeps what is put, and adds what a PATCH has: node_server.js ADDRESS PORT FILE...
// Each FILE is there from the start, under its name.
const coap = require('coap')
const crypto = require('crypto')
const fs = require('fs')
const path = require('path')

const kept = new Map()
function keep(name, payload, format) {
  kept.set(name, { payload, format, etag: crypto.createHash('sha256').update(payload).digest().subarray(0, 8) })
}
for (const file of process.argv.slice(4)) {
  keep('/' + path.basename(file), fs.readFileSync(file))
}
const server = coap.createServer({ type: 'udp4' }, (request, response) => {
  const name = request.url.split('?')[0]
  switch (request.method) {
    case 'PUT':
      response.code = kept.has(name) ? '2.04' : '2.01'
      keep(name, request.payload, request.headers['Content-Format'])
      return response.end()
    case 'PATCH': {
      const { payload, format } = kept.get(name)
      keep(name, Buffer.concat([payload, request.payload]), format)
      response.code = '2.04'
      return response.end()
    }
    case 'POST':
      response.code = '2.04'
      return response.end(request.payload)
    case 'DELETE':
      kept.delete(name)
      response.code = '2.02'
      return response.end()
    default: {
      const found = kept.get(name)
      if (!found) {
        response.code = '4.04'
        return response.end()
      }
      response.code = '2.05'
      if (found.format) response.setOption('Content-Format', found.format)
      response.setOption('ETag', found.etag)
      return response.end(found.payload)
    }
  }
})
server.listen(Number(process.argv[3]), process.argv[2])
