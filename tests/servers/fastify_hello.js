// The server that Node runs in tests/real_servers.rs: fastify on an inherited descriptor, an ack when it
// listens, and an end without a lost request.
'use strict'

const net = require('node:net')
const app = require('fastify')()

const generation = process.env.EINHORN_GENERATION ?? '0'
let stopping = false

app.addHook('onSend', async (request, reply) => {
  reply.header('X-Worker', `${process.pid} ${generation}`)
  // Whoever keeps a connection learns with an answer that it was the last one on it.
  if (stopping) reply.header('Connection', 'close')
})
app.get('/', async () => ({ pid: process.pid, generation }))

app.ready().then(() => app.server.listen({ fd: Number(process.env.EINHORN_FD_0) }, () => {
  const ack = JSON.stringify({ command: 'worker:ack', pid: process.pid })
  net.connect(process.env.EINHORN_SOCK_PATH).end(ack + '\n')
}))

process.on('SIGUSR2', () => {
  stopping = true
  // Stops accepting. http.Server's own close() also ends idle connections, on which a request may be on its
  // way; net.Server's leaves them to their next answer.
  net.Server.prototype.close.call(app.server)
})
