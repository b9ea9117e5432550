import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SERVICE } from './identity-provider.ts'
import { startLemonldap, submit } from './lemonldap-server.ts'
import { type Started, signOut, startBoth, testProvider } from './provider-suite.ts'

testProvider('LemonLDAP::NG', startLemonldap, {
  userName: 'Doctor Who',
  sub: /^dwho$/,
  serviceToken: { typ: 'JWT', audience: (audience) => [SERVICE.id, audience] },
})

/** Whether the provider still knows the browser: it then sends a code without showing a page. */
const isKnownToProvider = async ({ visitor, gatewayUrl }: Started): Promise<boolean> => {
  const login = await visitor.visit(`${gatewayUrl}/auth/login`)
  const authorization = new URL(login.headers.get('location') ?? '')
  authorization.searchParams.set('prompt', 'none')
  const end = await visitor.follow(authorization, ({ pathname }) => pathname === '/auth/callback')
  return end instanceof URL && end.searchParams.has('code')
}

test('LemonLDAP::NG: a sign-out leads to its page, which ends its session and leads back to the console', async (t) => {
  const started = await startBoth(t, startLemonldap)
  const { visitor, gatewayUrl } = started
  const page = await visitor.visit(await signOut(started))
  assert.equal(await isKnownToProvider(started), true)
  const back = await submit(visitor, page, { confirm: '1' }, ({ origin }) => origin === gatewayUrl)
  assert.equal(String(back), `${gatewayUrl}/console`)
  assert.equal(await isKnownToProvider(started), false)
})
