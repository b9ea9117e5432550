import { createServer, type ServerResponse } from 'node:http'
import type { TestContext } from 'node:test'
import type { Env } from '../../src/config.ts'
import { listenOn } from './ports.ts'

// A server for the credentials URI provider of the vendor's provider chain (ALIBABA_CLOUD_CREDENTIALS_URI).

export interface StsCredentials {
  readonly accessKeyId: string
  readonly accessKeySecret: string
  readonly securityToken: string
}

export type CredentialReply = 'keys' | 'error' | 'garbage' | 'incomplete' | 'hanging' | 'slow-body'

export interface CredentialServer {
  /** The environment in which the provider chain finds only this server. */
  readonly env: Env
  readonly requests: number
  give(keys: StsCredentials, expiresAt?: Date): void
  answerWith(reply: CredentialReply): void
}

const HOUR_MS = 3_600_000

/** @param home a folder without profiles */
export const startCredentialServer = async (
  t: TestContext,
  home: string,
  first: StsCredentials,
): Promise<CredentialServer> => {
  let reply: CredentialReply = 'keys'
  let asked = 0
  let body = ''
  const give: CredentialServer['give'] = (keys, expiresAt = new Date(Date.now() + HOUR_MS)) => {
    body = JSON.stringify({
      Code: 'Success',
      AccessKeyId: keys.accessKeyId,
      AccessKeySecret: keys.accessKeySecret,
      SecurityToken: keys.securityToken,
      Expiration: expiresAt.toISOString(),
    })
  }
  give(first)
  const server = createServer((_req, res) => {
    asked += 1
    REPLIES[reply](res, body)
  })
  const port = await listenOn(t, server)
  return {
    env: {
      CREDENTIALS: 'chain',
      ALIBABA_CLOUD_ACCESS_KEY_ID: '',
      ALIBABA_CLOUD_ACCESS_KEY_SECRET: '',
      HOME: home,
      ALIBABA_CLOUD_ECS_METADATA_DISABLED: 'true',
      ALIBABA_CLOUD_CREDENTIALS_URI: `http://127.0.0.1:${port}/keys`,
    },
    get requests() {
      return asked
    },
    give,
    answerWith: (next) => {
      reply = next
    },
  }
}

/** Faulty responses contain the keys too, so that tests can check that they do not leak. */
const REPLIES: Readonly<Record<CredentialReply, (res: ServerResponse, body: string) => void>> = {
  keys: (res, body) => void res.end(body),
  error: (res, body) => void res.writeHead(500).end(body),
  garbage: (res, body) => void res.end(`<html>${body}`),
  incomplete: (res, body) => void res.end(body.replace('"SecurityToken"', '"Token"')),
  hanging: () => undefined,
  'slow-body': (res, body) => void res.writeHead(200).write(body.slice(0, -1)),
}
