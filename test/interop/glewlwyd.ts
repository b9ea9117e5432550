import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startGlewlwyd, USER_NAME } from './glewlwyd-server.ts'
import { signOut, startBoth, testProvider } from './provider-suite.ts'

testProvider('Glewlwyd', startGlewlwyd, {
  userName: USER_NAME,
  // An identifier that Glewlwyd makes, and not the login.
  sub: /^[A-Za-z0-9]{32}$/,
  serviceToken: { typ: 'at+jwt', audience: (audience) => audience },
})

// Without `id_token_hint` Glewlwyd responds with an empty page and ends nothing. The gateway keeps no ID token.
test('Glewlwyd: a sign-out ends the session of the gateway, and that of the provider stays', async (t) => {
  const started = await startBoth(t, startGlewlwyd)
  const { visitor } = started
  const logoutUrl = await signOut(started)
  const page = await visitor.visit(logoutUrl)
  assert.deepEqual([page.status, await page.text()], [200, ''])
  const users = new URL('/api/profile_list', logoutUrl)
  assert.equal((await visitor.visit(users)).status, 200)
  visitor.forget(users.href, 'GLEWLWYD2_SESSION_ID')
  assert.equal((await visitor.visit(users)).status, 401)
})
