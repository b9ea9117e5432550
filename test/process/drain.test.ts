import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, test } from 'node:test'
import { asOperator, eventually, temporaryFolder } from '../helpers/gateway.ts'
import { addTasks, prepare, spawnGateway, startProcess, waitForCancels } from '../helpers/process.ts'
import { holdOpen, openSocket, parseAnswer, sendBytes, statusAndCode } from '../helpers/raw-http.ts'
import { startResponseHoldingProxy } from '../helpers/upstream-proxy.ts'

/** No grace period can be shorter. */
const SHORTEST = { UPSTREAM_TIMEOUT_MS: '10', REQUEST_TIMEOUT_MS: '3010', SHUTDOWN_GRACE_MS: '8010' }

const SIGTERM_ON_LISTENING = `
  import { Server } from 'node:net'
  const { listen } = Server.prototype
  Server.prototype.listen = function (...args) {
    this.once('listening', () => process.kill(process.pid, 'SIGTERM'))
    return listen.apply(this, args)
  }`

/** Every part of the gateway keeps to its deadline, so one that does not has to be made. */
const NEVER_ANSWERED = `
  import { ServerResponse } from 'node:http'
  const { end } = ServerResponse.prototype
  ServerResponse.prototype.end = function (...args) {
    return this.req.url === '/livez?never' ? this : end.apply(this, args)
  }`

/** Resolves once connections are refused; one that came in the moment of closing is reset. */
const closedToNew = (url: string): Promise<string> =>
  eventually(async () => {
    const socket = openSocket(url)
    const failure = await once(socket, 'connect').then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error.code,
    )
    socket.destroy()
    return failure === 'ECONNRESET' ? undefined : failure
  })

// The first one mostly waits, so that the others run meanwhile.
describe('a gateway that is told to stop', { concurrency: 2 }, () => {
  test('a request that is not done when the grace period is over is left, and the process ends with 1', async (t) => {
    const { env } = await prepare(t)
    const preload = join(await temporaryFolder(t), 'never.mjs')
    await writeFile(preload, NEVER_ANSWERED)
    const gateway = await startProcess(t, { ...env, ...SHORTEST }, { execArgv: ['--import', preload] })
    await holdOpen(t, gateway, 'GET /livez?never HTTP/1.1\r\nHost: localhost\r\n\r\n')

    const startedAt = performance.now()
    gateway.kill('SIGTERM')
    const { code, stdout } = await gateway.ended

    assert.equal(code, 1)
    assert.ok(performance.now() - startedAt >= 5000)
    assert.match(stdout, /the grace period is over/)
  })

  test('a cancel in flight at SIGTERM is answered, recorded, and only then does the process end', async (t) => {
    const { sandbox, env } = await prepare(t)
    const proxy = await startResponseHoldingProxy(t, sandbox.url)
    const gateway = await startProcess(t, { ...env, UPSTREAM_URL: proxy.url })
    const answer = gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).then()
    await waitForCancels(sandbox, 1)

    gateway.kill('SIGTERM')
    await gateway.line('stopping')
    proxy.release()
    const { status, headers } = await answer
    const { code } = await gateway.ended
    const restarted = await startProcess(t, env)

    assert.deepEqual([status, headers.connection, code], [202, 'close', 0])
    assert.deepEqual(
      (await restarted.records()).map(({ outcome }) => outcome),
      ['accepted'],
    )
  })

  test('the outcome of a cancel whose caller disconnected at SIGTERM is still recorded', async (t) => {
    const { sandbox, env } = await prepare(t)
    const proxy = await startResponseHoldingProxy(t, sandbox.url)
    const gateway = await startProcess(t, { ...env, UPSTREAM_URL: proxy.url })
    const abandoned = gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)
    abandoned.catch(() => undefined)
    await waitForCancels(sandbox, 1)

    abandoned.abort()
    await gateway.line('request')
    gateway.kill('SIGTERM')
    await gateway.line('stopping')
    proxy.release()
    const { code } = await gateway.ended
    const restarted = await startProcess(t, env)

    assert.equal(code, 0)
    assert.deepEqual(
      (await restarted.records()).map(({ outcome }) => outcome),
      ['accepted'],
    )
  })

  test('during the delay it is not ready, yet still serves, and keeps no connection', async (t) => {
    const { sandbox, env } = await prepare(t)
    const gateway = await startProcess(t, { ...env, SHUTDOWN_DELAY_MS: '60000' })

    gateway.kill('SIGTERM')
    await gateway.line('stopping')
    const ready = await gateway.api.get('/readyz')
    const alive = await gateway.api.get('/livez')
    const cancelled = await gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)

    assert.deepEqual([ready.status, ready.body.code], [503, 'shutting-down'])
    assert.deepEqual([alive.status, alive.headers.connection], [200, 'close'])
    assert.deepEqual([cancelled.status, cancelled.headers.connection], [202, 'close'])
  })

  test('while the last answer is awaited, new connections are refused and idle ones closed', async (t) => {
    const { sandbox, env } = await prepare(t)
    const proxy = await startResponseHoldingProxy(t, sandbox.url)
    const gateway = await startProcess(t, { ...env, UPSTREAM_URL: proxy.url })
    const agent = new Agent({ keepAlive: true })
    t.after(() => agent.destroy())
    await gateway.api.get('/livez').agent(agent)
    const [idle] = Object.values(agent.freeSockets).flatMap((sockets) => sockets ?? [])
    assert.ok(idle)
    const answer = gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).then()
    await waitForCancels(sandbox, 1)

    const idleClosed = once(idle, 'close')
    gateway.kill('SIGTERM')
    await idleClosed
    const refused = await closedToNew(gateway.url)
    proxy.release()

    assert.equal(refused, 'ECONNREFUSED')
    assert.equal((await answer).status, 202)
    assert.equal((await gateway.ended).code, 0)
  })

  test('a request on a kept connection after the last response is refused', async (t) => {
    const { sandbox, env } = await prepare(t)
    const proxy = await startResponseHoldingProxy(t, sandbox.url)
    const gateway = await startProcess(t, { ...env, UPSTREAM_URL: proxy.url })
    const socket = openSocket(gateway.url)
    t.after(() => socket.destroy())
    const head = `Host: localhost\r\nX-API-Key: ${asOperator['x-api-key']}\r\n\r\n`
    const [first, second] = [sandbox.addTask(), sandbox.addTask()]
    let received = ''
    socket.on('data', (chunk) => {
      received += chunk
    })
    socket.write(`DELETE /tasks/${first} HTTP/1.1\r\n${head}`)
    await waitForCancels(sandbox, 1)

    gateway.kill('SIGTERM')
    await closedToNew(gateway.url)
    socket.write(`DELETE /tasks/${second} HTTP/1.1\r\n${head}`)
    proxy.release()
    await once(socket, 'close')

    const statuses = [...received.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)
    assert.ok(['202', '202,503'].includes(statuses.join()), statuses.join())
    assert.equal(sandbox.task(second)?.cancelStatus, 'INIT')
    assert.equal((await gateway.ended).code, 0)
  })

  for (const [name, bytes] of [
    ['a connection on which nothing was ever asked', ''],
    ['half a request', 'GET /livez HTTP/1.1\r\nHo'],
  ] as const) {
    test(`${name} holds nothing up`, async (t) => {
      const { env } = await prepare(t)
      const gateway = await startProcess(t, { ...env, ...SHORTEST })
      await holdOpen(t, gateway, bytes)

      gateway.kill('SIGTERM')

      assert.equal((await gateway.ended).code, 0)
    })
  }

  test('a SIGTERM in the moment in which the port opens is no different', async (t) => {
    const { env } = await prepare(t)
    const preload = join(await temporaryFolder(t), 'early.mjs')
    await writeFile(preload, SIGTERM_ON_LISTENING)
    const gateway = await spawnGateway(t, env, { execArgv: ['--import', preload] })
    assert.equal((await gateway.ended).code, 0)
  })

  test('a second signal does not cut the first one short', async (t) => {
    const { sandbox, env } = await prepare(t)
    const proxy = await startResponseHoldingProxy(t, sandbox.url)
    const gateway = await startProcess(t, { ...env, UPSTREAM_URL: proxy.url })
    const answer = gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator).then()
    await waitForCancels(sandbox, 1)

    gateway.kill('SIGTERM')
    await closedToNew(gateway.url)
    gateway.kill('SIGTERM')
    gateway.kill('SIGINT')
    proxy.release()

    assert.equal((await answer).status, 202)
    assert.equal((await gateway.ended).code, 0)
  })

  test('a request whose body is still on its way is refused, and holds nothing up', async (t) => {
    const { env } = await prepare(t)
    const gateway = await startProcess(t, { ...env, ...SHORTEST })
    const socket = openSocket(gateway.url)
    t.after(() => socket.destroy())
    socket.write('DELETE /tasks/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nonly')
    await gateway.api.get('/livez')

    gateway.kill('SIGTERM')

    const answer = parseAnswer(await text(socket))
    assert.deepEqual(
      [...statusAndCode(answer), JSON.parse(answer.body).outcome],
      [503, 'shutting-down', 'not-cancelled'],
    )
    assert.equal((await gateway.ended).code, 0)
  })

  test('of pipelined cancels in flight each is answered', async (t) => {
    const { sandbox, env } = await prepare(t)
    const proxy = await startResponseHoldingProxy(t, sandbox.url)
    const gateway = await startProcess(t, { ...env, UPSTREAM_URL: proxy.url })
    const key = `X-API-Key: ${asOperator['x-api-key']}`
    const cancels = addTasks(sandbox, 2).map(
      (taskNo) => `DELETE /tasks/${taskNo} HTTP/1.1\r\nHost: a\r\n${key}\r\n\r\n`,
    )
    const answers = sendBytes(gateway.url, cancels.join(''))
    await waitForCancels(sandbox, 2)

    gateway.kill('SIGTERM')
    await closedToNew(gateway.url)
    proxy.release()

    assert.equal((await answers).match(/HTTP\/1\.1 202/g)?.length, 2)
    assert.equal((await gateway.ended).code, 0)
  })

  for (const signal of ['SIGINT', 'SIGHUP'] as const) {
    test(`${signal} drains as well`, async (t) => {
      const { env } = await prepare(t)
      const gateway = await startProcess(t, env)
      gateway.kill(signal)
      assert.equal((await gateway.line('stopping')).signal, signal)
      assert.equal((await gateway.ended).code, 0)
    })
  }
})
