import assert from 'node:assert/strict'
import { createServer, type RequestListener } from 'node:http'
import { type TestContext, test } from 'node:test'
import { asOperator, startGateway } from '../helpers/gateway.ts'
import { assertUnblocked, repeatedText, type TextOf } from '../helpers/growth.ts'
import { listenOn } from '../helpers/ports.ts'
import { apiKeysWith, asCaller } from '../helpers/restricted-callers.ts'

// The largest answers that an upstream can give, and how long they keep the gateway from serving others.

const MAX_BYTES = 4 * 1024 * 1024

const LIST = '{"RequestId":"A","TotalItemNum":1,"Data":{"TaskInfo":['
const DETAILS = '{"RequestId":"A","TotalItemNum":1,"Data":{"TaskDetail":['
const END = ']}}'

const AT_EXAMPLE = { name: 'example-only', scopes: ['tasks:cancel', 'tasks:read'], domains: ['*.example.com'] } as const

const start = async (t: TestContext, answer: RequestListener) => {
  const upstream = `http://127.0.0.1:${await listenOn(t, createServer(answer))}`
  return startGateway(t, {
    env: { UPSTREAM_URL: upstream, UPSTREAM_MAX_ATTEMPTS: '1', API_KEYS: apiKeysWith(AT_EXAMPLE) },
  })
}

const saying =
  (body: string): RequestListener =>
  (_req, res) =>
    void res.end(body)

const nested: TextOf = (length) => `{"RequestId":"A","Data":${'['.repeat(length / 2)}${']'.repeat(length / 2 - 40)}}`

const LONG_NAME = repeatedText(
  `${DETAILS}{"TaskNo":"t-1","TaskDetailNo":"d","DomainName":"a`,
  '\u0301\u0323',
  `"}${END}`,
  '',
)

for (const [name, textOf] of [
  ['a list of zeros', repeatedText(LIST, '0', END)],
  ['a list of empty rows', repeatedText(LIST, '{}', END)],
  ['details that are empty', repeatedText(DETAILS, '{}', END)],
  ['rows without end', repeatedText(LIST, '{"TaskNo":"t-1"}', END)],
  ['lists in lists', nested],
  ['a name of combining marks', (length) => LONG_NAME(length / 2)],
] as const satisfies readonly (readonly [string, TextOf])[]) {
  test(`an upstream that answers with ${name} keeps the gateway from nothing else`, async (t) => {
    const body = textOf(MAX_BYTES - 100)
    const { api } = await start(t, saying(body))
    const codes = new Set<string>()
    await assertUnblocked(async () => {
      const answers = [
        await api.get('/tasks').set(asOperator),
        await api.get('/tasks/t-1').set(asOperator),
        await api.get('/tasks/t-1/details').set(asOperator),
        await api.delete('/tasks/t-1').set(asCaller('example-only')),
        await api.get('/tasks/t-1').set(asCaller('example-only')),
      ]
      for (const { body, status } of answers) codes.add(body.code ?? String(status))
    })
    assert.ok(!codes.has('internal') && !codes.has('202'), [...codes].join())
  })
}

test('a restricted caller cancels nothing whose name is too long to be one', async (t) => {
  const { api } = await start(t, saying(LONG_NAME(500_000)))
  const { status, body } = await api.delete('/tasks/t-1').set(asCaller('example-only'))
  assert.deepEqual([status, body.code], [403, 'forbidden'])
})
