import * as acs3 from '../../src/alibaba/acs3.ts'
import * as rpcV1 from '../../src/alibaba/rpc-v1.ts'
import { canonicalQuery } from '../../src/alibaba/signing.ts'
import type { Params, SandboxRequest } from './request.ts'

/** The parts of a signed request, of either signature version. A part that is missing is the empty string. */
export interface SignedRequest {
  readonly signatureVersion: 'rpc-v1' | 'acs3'
  readonly method: string
  readonly path: string
  readonly action: string
  readonly version: string
  /** Everything in query and form but `Signature`. */
  readonly params: Params
  readonly accessKeyId: string
  readonly securityToken: string
  readonly timestamp: string
  readonly nonce: string
  readonly signature: string
  /** Does the signature cover all that it must? */
  readonly isComplete: boolean
  readonly stringToSign: string
  sign(secret: string): string
}

/** A signature that leaves out one of these headers does not cover the caller, the action or the time. */
const MUST_BE_SIGNED = [
  'host',
  'x-acs-action',
  'x-acs-content-sha256',
  'x-acs-date',
  'x-acs-signature-nonce',
  'x-acs-version',
] as const

/** Reads the signature from the `Authorization` header if that is an ACS3 one, and from the parameters otherwise. */
export const readSignedRequest = (request: SandboxRequest): SignedRequest =>
  request.headers.authorization?.startsWith('ACS3-HMAC-SHA256') ? readAcs3(request) : readRpcV1(request)

const readRpcV1 = ({ method, path, query, form }: SandboxRequest): SignedRequest => {
  const { Signature = '', ...params }: Params = { ...query, ...form }
  const stringToSign = rpcV1.stringToSign(method, canonicalQuery(params))
  return {
    signatureVersion: 'rpc-v1',
    method,
    path,
    params,
    action: params.Action ?? '',
    version: params.Version ?? '',
    accessKeyId: params.AccessKeyId ?? '',
    securityToken: params.SecurityToken ?? '',
    timestamp: params.Timestamp ?? '',
    nonce: params.SignatureNonce ?? '',
    signature: Signature,
    isComplete: Signature !== '',
    stringToSign,
    sign: (secret) => rpcV1.signature(secret, stringToSign),
  }
}

const readAcs3 = (request: SandboxRequest): SignedRequest => {
  const { method, path, query, form, headers } = request
  const authorization = parseAuthorization(headers.authorization ?? '')
  const signedNames = (authorization.SignedHeaders ?? '').split(';')
  const stringToSign = acs3.stringToSign(
    acs3.canonicalRequest(method, canonicalQuery(query), signedHeaders(request, signedNames)),
  )
  return {
    signatureVersion: 'acs3',
    method,
    path,
    params: { ...query, ...form },
    action: headers['x-acs-action'] ?? '',
    version: headers['x-acs-version'] ?? '',
    accessKeyId: authorization.Credential ?? '',
    securityToken: headers['x-acs-security-token'] ?? '',
    timestamp: headers['x-acs-date'] ?? '',
    nonce: headers['x-acs-signature-nonce'] ?? '',
    signature: authorization.Signature ?? '',
    isComplete: MUST_BE_SIGNED.every((name) => signedNames.includes(name)),
    stringToSign,
    sign: (secret) => acs3.signature(secret, stringToSign),
  }
}

/**
 * The hash is taken from the body that came, not from the header, so that a foreign body fails like a foreign header.
 */
const signedHeaders = ({ headers, body }: SandboxRequest, names: readonly string[]): Params => {
  const present: Params = { ...headers, 'x-acs-content-sha256': acs3.sha256Hex(body) }
  return Object.fromEntries(names.map((name) => [name, present[name] ?? '']))
}

/** `ALGORITHM Credential=…,SignedHeaders=…,Signature=…` by name. */
const parseAuthorization = (header: string): Params =>
  Object.fromEntries(
    header
      .slice(header.indexOf(' ') + 1)
      .split(',')
      .map((part) => part.trim().split('='))
      .map(([name = '', ...value]) => [name, value.join('=')]),
  )
