import {
  BlockList,
  getDefaultAutoSelectFamilyAttemptTimeout,
  isIP,
  SocketAddress,
  setDefaultAutoSelectFamilyAttemptTimeout,
} from 'node:net'

/** Is this host name or address one that only this machine can reach? */
export const isLoopback = (host: string): boolean => /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/i.test(host)

/** Over https:, or http: on this machine: no third party on the way can change the response. */
export const isSafeUrl = (url: URL): boolean =>
  url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url.hostname))

/** Some networks, and whether an address lies in one of them. */
export interface Subnets {
  /** For an IPv4 address, or an IPv6 address that is not IPv4-mapped. */
  has(address: string): boolean
}

/**
 * Reads addresses and CIDR blocks, separated by commas; null where one is none, `/0`, or IPv4-mapped. Empty: no
 * network.
 */
export const parseSubnets = (text: string): Subnets | null => {
  // A list for each family: one BlockList for both would find IPv4 addresses in IPv6 blocks such as ::/64.
  const lists = { 4: new BlockList(), 6: new BlockList() }
  const parts = text === '' ? [] : text.split(',').map((part) => part.trim())
  for (const part of parts) {
    const subnet = parseSubnet(part)
    if (subnet === null) return null
    lists[subnet.family].addSubnet(subnet.address, subnet.prefix, NAMES[subnet.family])
  }
  return {
    has: (address) => {
      const family = familyOf(address)
      return family !== null && lists[family].check(address, NAMES[family])
    },
  }
}

type Family = 4 | 6

const NAMES = { 4: 'ipv4', 6: 'ipv6' } as const
const BITS = { 4: 32, 6: 128 } as const

const familyOf = (address: string): Family | null => {
  const family = isIP(address)
  return family === 4 || family === 6 ? family : null
}

const parseSubnet = (text: string): { address: string; prefix: number; family: Family } | null => {
  const [address = '', bits, ...more] = text.split('/')
  const family = address.includes('%') ? null : familyOf(address)
  if (family === null || more.length > 0 || (family === 6 && isMapped(address))) return null
  const prefix = bits === undefined ? BITS[family] : /^\d{1,3}$/.test(bits) ? Number(bits) : 0
  return prefix >= 1 && prefix <= BITS[family] ? { address, prefix, family } : null
}

/** However it is spelled. */
const isMapped = (address: string): boolean =>
  /^::ffff:\d+\.\d+\.\d+\.\d+$/.test(new SocketAddress({ address, family: 'ipv6' }).address)

/**
 * How long one address of a name may take to accept a connection, while other addresses are left. Node tries them one
 * after the other, IPv6 and IPv4 in turn, gives an address up for good after this time, and has 250 ms as its own
 * value: less than a round trip between continents. Four addresses are tried within the 3 s of a connection to the
 * upstream.
 */
export const ADDRESS_ATTEMPT_MS = 750

/**
 * Holds for every connection of the process: upstream, issuer, identity provider, Redis, PostgreSQL, trace collector. A
 * longer time that Node was started with (`--network-family-autoselection-attempt-timeout`) stays.
 */
export const allowDistantAddresses = (): void =>
  setDefaultAutoSelectFamilyAttemptTimeout(Math.max(ADDRESS_ATTEMPT_MS, getDefaultAutoSelectFamilyAttemptTimeout()))
