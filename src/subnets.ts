import { BlockList, isIP, SocketAddress } from 'node:net'

/** Some networks, and whether an address lies in one of them. */
export interface Subnets {
  /** For an IPv4 address, or an IPv6 address that is not IPv4-mapped. */
  has(address: string): boolean
}

/** Reads addresses and CIDR blocks, separated by commas; null where one is none, `/0`, or IPv4-mapped. Empty: no network. */
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
