import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cancelTask, findOpenTasks, lookAt } from '../../client/example/cancel.ts'
import { createGatewayClient, isProblem } from '../../client/src/index.ts'
import { asOperator, cancelCalls, startGateway } from '../helpers/gateway.ts'
import { SIGN_IN_ENV, sessionCookie } from '../helpers/session.ts'

test('the example lists tasks, cancels one, waits for it and looks at it', async (t) => {
  const { url, upstream } = await startGateway(t, { sandbox: { cancellingMs: 0 } })
  const client = createGatewayClient({ baseUrl: url, headers: asOperator })
  const [taskNo, other] = [upstream.addTask(), upstream.addTask()]
  const openTasks = async () => (await findOpenTasks(client)).map((task) => task.taskNo).sort()

  assert.deepEqual(await openTasks(), [taskNo, other].sort())
  assert.equal(await cancelTask(client, taskNo), 'cancelled')
  assert.equal(await lookAt(client, taskNo), 'cancelled')
  assert.deepEqual(await openTasks(), [other])
})

test('the example tells a task that is not there from one that can no longer be cancelled', async (t) => {
  const { url, upstream } = await startGateway(t, { sandbox: { waitingMs: 0, executingMs: 0 } })
  const client = createGatewayClient({ baseUrl: url, headers: asOperator })
  assert.equal(await cancelTask(client, 'nobody-s'), 'not-found')
  assert.equal(await lookAt(client, 'nobody-s'), 'not-found')
  assert.equal(await cancelTask(client, upstream.addTask()), 'not-cancellable')
})

const OUTCOME_UNKNOWN = { code: 'outcome-unknown', retryable: false, outcome: 'unknown' } as const

/** Responses that can replace the response to a cancellation that took effect. */
const LOST = {
  'a broken connection': () => Promise.reject(new TypeError('fetch failed')),
  'the problem outcome-unknown': async () => Response.json(OUTCOME_UNKNOWN, { status: 504 }),
  'a page of something in between': async () => new Response('<h1>Bad gateway</h1>', { status: 502 }),
  'an empty answer': async () => new Response(null, { status: 502, headers: { 'content-length': '0' } }),
} as const

for (const [name, answer] of Object.entries(LOST)) {
  test(`after ${name} the example looks at the task, and cancels nothing twice`, async (t) => {
    const { url, upstream } = await startGateway(t, { sandbox: { cancellingMs: 0 } })
    const loseCancels = async (request: Request): Promise<Response> => {
      const real = await fetch(request)
      return request.method === 'DELETE' ? answer() : real
    }
    const client = createGatewayClient({ baseUrl: url, headers: asOperator, fetch: loseCancels })
    assert.equal(await cancelTask(client, upstream.addTask()), 'cancelled')
    assert.equal(cancelCalls(upstream).length, 1)
  })
}

test('the example throws problems that a caller cannot resolve, with their codes', async (t) => {
  const { url, upstream } = await startGateway(t)
  const client = createGatewayClient({ baseUrl: url })
  await assert.rejects(cancelTask(client, upstream.addTask()), /\(unauthenticated\)/)
  await assert.rejects(findOpenTasks(client), /\(unauthenticated\)/)
})

test('a problem is known by its codes, and nothing else is one', async (t) => {
  const { url } = await startGateway(t)
  const { error, response } = await createGatewayClient({ baseUrl: url }).GET('/me')
  assert.equal(response.status, 401)
  assert.equal(isProblem(error), true)
  assert.equal(isProblem(error, 'forbidden', 'unauthenticated'), true)
  assert.equal(isProblem(error, 'forbidden'), false)
  for (const other of [undefined, null, '', '<h1>', {}, { code: 'unauthenticated' }]) {
    assert.equal(isProblem(other), false)
  }
})

test('a function for headers is called for each request, and headers of one request take precedence', async (t) => {
  const { url } = await startGateway(t)
  const keys = [asOperator, { 'x-api-key': 'expired' }, asOperator]
  const client = createGatewayClient({ baseUrl: url, headers: async () => keys.shift() ?? {} })
  const statuses: number[] = []
  for (const _ of [1, 2]) statuses.push((await client.GET('/me')).response.status)
  assert.deepEqual(statuses, [200, 401])
  assert.equal((await client.GET('/me', { headers: { 'X-API-Key': 'other' } })).response.status, 401)
})

test('with a session, requests that change state carry X-CSRF, and reads do not', async (t) => {
  const { url, upstream } = await startGateway(t, { env: SIGN_IN_ENV, sandbox: { cancellingMs: 0 } })
  const { cookie } = await sessionCookie({ scopes: ['tasks:cancel'] })
  const sent: Request[] = []
  const headers = { cookie, origin: SIGN_IN_ENV.PUBLIC_URL ?? '' }
  const observed = (request: Request): Promise<Response> => {
    sent.push(request)
    return fetch(request)
  }
  const options = { baseUrl: url, headers, fetch: observed }
  const client = createGatewayClient({ ...options, session: true })
  assert.equal((await client.GET('/me')).data?.via, 'session')
  assert.equal((await client.cancelAndWait(upstream.addTask())).outcome, 'cancelled')
  assert.deepEqual(
    sent.map(({ method, headers, credentials }) => [method, headers.get('x-csrf'), credentials]),
    [
      ['GET', null, 'include'],
      ['DELETE', '1', 'include'],
    ],
  )
  const without = await createGatewayClient({ ...options, credentials: 'omit' }).cancelAndWait(upstream.addTask())
  assert.deepEqual([without.outcome, without.problem?.code], ['not-cancelled', 'csrf-rejected'])
  assert.equal(sent.at(-1)?.credentials, 'omit')
})
