import { getDefaultAutoSelectFamilyAttemptTimeout, setDefaultAutoSelectFamilyAttemptTimeout } from 'node:net'

/**
 * How long one address of a name may take to accept a connection, while other addresses are left. Node tries them one
 * after the other, IPv6 and IPv4 in turn, gives an address up for good after this time, and has 250 ms as its own value:
 * less than a round trip between continents. Four addresses are tried within the 3 s of a connection to the upstream.
 */
export const ADDRESS_ATTEMPT_MS = 750

/**
 * Holds for every connection of the process: upstream, issuer, identity provider, Redis, PostgreSQL, trace collector. A
 * longer time that Node was started with (`--network-family-autoselection-attempt-timeout`) stays.
 */
export const allowDistantAddresses = (): void =>
  setDefaultAutoSelectFamilyAttemptTimeout(Math.max(ADDRESS_ATTEMPT_MS, getDefaultAutoSelectFamilyAttemptTimeout()))
