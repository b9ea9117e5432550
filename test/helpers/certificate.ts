import { generateKeyPairSync, sign } from 'node:crypto'

// A certificate for loopback, created on each run, so that the repository contains no private key.

/** One DER element: tag, length, content. */
const der = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
  const content = Buffer.concat(parts)
  const { length } = content
  const head = length < 0x80 ? [tag, length] : [tag, 0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from(head), content])
}

const sequence = (...parts: readonly Uint8Array[]): Buffer => der(0x30, ...parts)
const objectId = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'))
const integer = (value: number): Buffer => der(0x02, Buffer.from([value]))
const bits = (content: Uint8Array): Buffer => der(0x03, Buffer.from([0]), content)

const ECDSA_WITH_SHA256 = sequence(objectId('2a8648ce3d040302'))
const COMMON_NAME = '550403'
const SUBJECT_ALT_NAME = '551d11'
const BASIC_CONSTRAINTS = '551d13'

const NAME = sequence(der(0x31, sequence(objectId(COMMON_NAME), der(0x0c, Buffer.from('localhost')))))
const utcTime = (text: string): Buffer => der(0x17, Buffer.from(text))
const validUntil = (text: string): Buffer => sequence(utcTime('200101000000Z'), utcTime(text))

const extensionsFor = (...names: readonly Buffer[]): Buffer =>
  sequence(
    sequence(objectId(SUBJECT_ALT_NAME), der(0x04, sequence(...names))),
    sequence(objectId(BASIC_CONSTRAINTS), der(0x04, sequence(der(0x01, Buffer.from([0xff]))))),
  )

const dnsName = (name: string): Buffer => der(0x82, Buffer.from(name))
const LOOPBACK = [dnsName('localhost'), der(0x87, Buffer.from([127, 0, 0, 1]))]

const namesOf = (name: string | undefined): readonly Buffer[] => (name === undefined ? LOOPBACK : [dnsName(name)])

export interface Certificate {
  readonly key: string
  readonly cert: string
}

export type CertificateFlaw = 'expired' | 'wrong name'

/**
 * Key and self-signed certificate (PEM) of localhost and 127.0.0.1, or of another name; the certificate is its own
 * authority. RFC 5280.
 */
export const createCertificate = (flaw?: CertificateFlaw, name?: string): Certificate => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const subjectKey = publicKey.export({ type: 'spki', format: 'der' })
  const version = der(0xa0, integer(2))
  const extensions = der(0xa3, extensionsFor(...namesOf(flaw === 'wrong name' ? 'elsewhere.example' : name)))
  const validity = validUntil(flaw === 'expired' ? '210101000000Z' : '491231235959Z')
  const signed = sequence(version, integer(1), ECDSA_WITH_SHA256, NAME, validity, NAME, subjectKey, extensions)
  const certificate = sequence(signed, ECDSA_WITH_SHA256, bits(sign('sha256', signed, privateKey)))
  const lines = certificate.toString('base64').replace(/.{64}(?=.)/g, '$&\n')
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
  }
}
