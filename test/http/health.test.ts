import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { test } from 'node:test'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { startGateway } from '../helpers/gateway.ts'
import { closedPort } from '../helpers/ports.ts'

test('a gateway that can record is ready, however ill its upstream is', async (t) => {
  const { api } = await startGateway(t, { env: { UPSTREAM_URL: `http://127.0.0.1:${await closedPort()}` } })
  const [live, ready] = [await api.get('/livez'), await api.get('/readyz')]
  assert.deepEqual([live.status, live.body], [200, { status: 'ok' }])
  assert.deepEqual([ready.status, ready.body], [200, { status: 'ready' }])
})

test('a gateway that can not record is live and not ready', async (t) => {
  const openStore = async (path: string) => ({
    ...(await openSqliteStore(path)),
    probe: () => Promise.reject(new Error('disk full')),
  })
  const { api } = await startGateway(t, { overrides: { openStore } })
  assert.equal((await api.get('/livez')).status, 200)
  const { status, body } = await api.get('/readyz')
  assert.deepEqual([status, body.code, body.retryable], [503, 'audit-unavailable', true])
})

test('however many ask at once, the disk is asked once', async (t) => {
  let [probes, asked] = [0, 0]
  const allAsked = Promise.withResolvers<void>()
  const note = (): void => {
    asked += 1
    if (asked === 10) allAsked.resolve()
  }
  subscribe('http.server.request.start', note)
  t.after(() => unsubscribe('http.server.request.start', note))
  const openStore = async (path: string) => ({
    ...(await openSqliteStore(path)),
    probe: async () => {
      probes += 1
      await allAsked.promise
    },
  })
  const { api } = await startGateway(t, { overrides: { openStore } })
  const answers = await Promise.all(Array.from({ length: 10 }, () => api.get('/readyz')))
  assert.deepEqual(
    answers.map(({ status }) => status),
    Array(10).fill(200),
  )
  assert.equal(probes, 1)
})
