import { isIP, SocketAddress } from 'node:net'
import { ipKeyGenerator } from 'express-rate-limit'
import type { Subnets } from '../../addresses.ts'
import { trimOws } from './ows.ts'

/** The caller's address as derived from trusted proxies, and the address of the connection's peer. */
export interface Addresses {
  readonly clientIp: string | null
  readonly peerIp: string | null
}

/**
 * An address in its one canonical form, or null where the text is none. Port, brackets and zone id are cut,
 * IPv4-mapped IPv6 becomes IPv4, IPv6 takes the form of RFC 5952.
 */
export const normalizeAddress = (text: string): string | null => {
  const bare = stripDecoration(trimOws(text))
  const family = isIP(bare)
  if (family !== 6) return family === 4 ? bare : null
  const { address } = new SocketAddress({ address: bare, family: 'ipv6' })
  // Only now: mapped addresses can be spelled in hex as well as in dotted form.
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(address)
  return mapped?.[1] ?? address
}

const stripDecoration = (text: string): string => {
  const [, bracketed] = /^\[([^[\]]*)\](?::\d{1,5})?$/.exec(text) ?? []
  const [, v4] = /^(\d+\.\d+\.\d+\.\d+):\d{1,5}$/.exec(text) ?? []
  return (bracketed ?? v4 ?? text).replace(/%[A-Za-z0-9._~-]*$/, '')
}

// One customer of an access provider usually holds a /56, and can change addresses inside it at will.
const IPV6_PREFIX = 56

/** The key of an address (canonical form) for limits: IPv4 the address, IPv6 its /56. */
export const networkOf = (address: string): string => ipKeyGenerator(address, IPV6_PREFIX)

/**
 * The caller's address. Reads `X-Forwarded-For` from the right for as long as the hops are trusted proxies. Reading
 * stops at the first hop that is no address, and the nearest trusted hop counts.
 * @param forwardedFor the values of all `X-Forwarded-For` lines in order
 */
export const clientAddress = (
  peer: string | undefined,
  forwardedFor: readonly string[],
  trusted: Subnets,
): Addresses => {
  const peerIp = normalizeAddress(peer ?? '')
  let clientIp = peerIp
  const hops = forwardedFor.join(',').split(',').reverse()
  for (const hop of hops) {
    if (clientIp === null || !trusted.has(clientIp)) break
    const address = normalizeAddress(hop)
    if (address === null) break
    clientIp = address
  }
  return { clientIp, peerIp }
}
