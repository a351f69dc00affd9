// The server that Node runs in tests/real_servers.rs: plain http, on the first of EINHORN_FDS.
'use strict'

const http = require('node:http')
const net = require('node:net')

const generation = process.env.EINHORN_GENERATION ?? '0'
let stopping = false

const server = http.createServer((request, response) => {
  response.setHeader('X-Worker', `${process.pid} ${generation}`)
  if (stopping) response.setHeader('Connection', 'close')
  response.end(`generation ${generation}, worker ${process.pid}\n`)
})

server.listen({ fd: Number(process.env.EINHORN_FDS.split(' ')[0]) }, () => {
  const ack = JSON.stringify({ command: 'worker:ack', pid: process.pid })
  net.connect(process.env.EINHORN_SOCK_PATH).end(ack + '\n')
})

process.on('SIGUSR2', () => {
  stopping = true
  net.Server.prototype.close.call(server)
})
