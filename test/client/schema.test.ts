import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import type { ProblemCode } from '../../client/src/index.ts'
import type { ErrorCode } from '../../src/errors.ts'
import { PROBLEMS } from '../../src/http/presentation/problems.ts'
import { ROOT } from '../helpers/process.ts'

const run = promisify(execFile)
const CLIENT = join(ROOT, 'client')

test('the types of the client are those that its own command makes of openapi.yaml', async () => {
  const { scripts } = JSON.parse(readFileSync(join(CLIENT, 'package.json'), 'utf8'))
  const [command, ...options] = String(scripts.generate).split(' ')
  assert.equal(command, 'openapi-typescript')
  const cli = join(CLIENT, 'node_modules/openapi-typescript/bin/cli.js')
  await assert.doesNotReject(run(process.execPath, [cli, ...options, '--check'], { cwd: CLIENT }))
})

/** Compiles only as long as every code of the client's has a case. */
const mayBeSentAgain = (code: ProblemCode): boolean => {
  switch (code) {
    case 'audit-unavailable':
    case 'gateway-busy':
    case 'identity-provider-unavailable':
    case 'request-timeout':
    case 'shutting-down':
    case 'sign-in-failed':
    case 'too-many-requests':
    case 'upstream-throttled':
    case 'upstream-timeout':
    case 'upstream-unavailable':
      return true
    case 'bad-request':
    case 'content-too-large':
    case 'credentials-ambiguous':
    case 'csrf-rejected':
    case 'expectation-failed':
    case 'forbidden':
    case 'headers-too-large':
    case 'internal':
    case 'method-not-allowed':
    case 'misdirected':
    case 'not-found':
    case 'outcome-unknown':
    case 'query-invalid':
    case 'task-no-invalid':
    case 'task-not-cancellable':
    case 'task-not-found':
    case 'unauthenticated':
    case 'upstream-bad-response':
    case 'upstream-credentials-rejected':
    case 'upstream-forbidden':
    case 'upstream-misconfigured':
      return false
    default:
      return code satisfies never
  }
}

test('the client knows every problem of the gateway, and which requests can be repeated', () => {
  const isOurs = (code: string): code is ErrorCode => code in PROBLEMS
  for (const code of Object.keys(PROBLEMS).filter(isOurs)) assert.equal(mayBeSentAgain(code), PROBLEMS[code].retryable)
})
