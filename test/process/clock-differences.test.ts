import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { buildGateway } from '../helpers/build.ts'
import { temporaryFolder } from '../helpers/gateway.ts'
import { prepare, startProcess } from '../helpers/process.ts'
import { SIGN_IN_ENV, sessionCookie } from '../helpers/session.ts'

test('the compiled gateway accepts and renews a session of a replica whose clock differs by up to 5 seconds', async (t) => {
  const [entry, folder] = [await buildGateway(), await temporaryFolder(t)]
  for (const [skewMs, status] of [
    [-4000, 200],
    [4000, 200],
    [-60_000, 401],
  ] as const) {
    const preload = join(folder, `clock${skewMs}.mjs`)
    await writeFile(preload, `const now = Date.now\nDate.now = () => now() + ${skewMs}\n`)
    const { env } = await prepare(t)
    const gateway = await startProcess(t, { ...env, ...SIGN_IN_ENV }, { entry, execArgv: ['--import', preload] })
    const answer = await gateway.api.get('/me').set({ ...(await sessionCookie()), 'x-csrf': '1' })
    assert.deepEqual([answer.status, answer.headers['set-cookie'] !== undefined], [status, status === 200], `${skewMs}`)
    gateway.kill('SIGTERM')
    assert.equal((await gateway.ended).code, 0)
  }
})
