import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { withCompileCache } from './process.ts'

// A network namespace: some addresses have a long round-trip time, others never respond. No packet leaves it.

/** Servers inside listen here. Packets to `DISTANT_ADDRESSES` arrive here after half a round trip. */
export const LOCAL_ADDRESS = '10.213.0.1'
export const DISTANT_ADDRESSES = ['10.213.0.2', '10.213.0.3', '10.213.0.4', '10.213.0.5'] as const
/** Packets to these addresses are lost. The system sorts IPv6 addresses without a route after IPv4 (RFC 6724). */
export const UNREACHABLE_ADDRESSES = {
  ipv4: ['10.213.1.2', '10.213.1.3', '10.213.1.4', '10.213.1.5'],
  ipv6: ['2001:db8::2', '2001:db8::3', '2001:db8::4', '2001:db8::5'],
  withoutRoute: ['3fff::2', '3fff::3', '3fff::4', '3fff::5'],
} as const

/**
 * Delays each IPv4 packet for half a round trip, swaps source and destination (the checksums stay valid) and returns
 * it, so that both ends are in one namespace. Drops packets to unreachable addresses, and all IPv6 packets.
 */
const RELAY = `
  use strict; use Time::HiRes qw(time);
  my ($device, $delay) = @ARGV;
  open(my $tun, '+<:raw', '/dev/net/tun') or die "tun: $!";
  ioctl($tun, 0x400454ca, pack('a16 S x22', $device, 0x1001)) or die "ioctl: $!";
  $| = 1; print "ready\\n";
  my @queue;
  for (;;) {
    my $wait = @queue ? $queue[0][0] - time : undef;
    vec(my $read = '', fileno($tun), 1) = 1;
    if ((!defined $wait || $wait > 0) && select($read, undef, undef, $wait) > 0) {
      sysread($tun, my $packet, 65535) or next;
      my @to = unpack('C4', substr($packet, 16, 4));
      next if ord($packet) >> 4 != 4 || $to[2] != 0;
      substr($packet, 12, 8) = substr($packet, 16, 4) . substr($packet, 12, 4);
      push @queue, [time + $delay, $packet];
    }
    syswrite($tun, (shift @queue)->[1]) while @queue && $queue[0][0] <= time;
  }
`

const DEVICE = 'distant'

const ip = (...args: readonly string[]): boolean => spawnSync('ip', args).status === 0

/** Whether this machine can create such a namespace. */
export const canIsolate = (): boolean => {
  const name = nameOfNamespace()
  const isPerlThere = spawnSync('perl', ['-MTime::HiRes', '-e', '1']).status === 0
  const isMade = isPerlThere && ip('netns', 'add', name) && ip('-n', name, 'tuntap', 'add', DEVICE, 'mode', 'tun')
  ip('netns', 'delete', name)
  return isMade
}

const nameOfNamespace = (): string => `gateway-${process.pid}-${randomInt(1_000_000)}`

export interface DistantNetwork {
  /** Starts a program inside; it ends with the test. */
  spawn(program: string, args: readonly string[], env?: NodeJS.ProcessEnv): ChildProcess
  /** Runs a program inside and returns its output. @throws if it fails */
  run(program: string, args: readonly string[], env?: NodeJS.ProcessEnv): Promise<string>
}

/** @param hosts the addresses of each name inside */
export const createDistantNetwork = async (
  t: TestContext,
  roundTripMs: number,
  hosts: Readonly<Record<string, readonly string[]>>,
): Promise<DistantNetwork> => {
  const name = nameOfNamespace()
  const folder = join('/etc/netns', name)
  const started: ChildProcess[] = []
  t.after(async () => {
    for (const child of started) {
      const closed = once(child, 'close')
      if (child.exitCode === null && child.signalCode === null && child.kill('SIGKILL')) await closed
    }
    ip('netns', 'delete', name)
    rmSync(folder, { recursive: true, force: true })
  })
  mkdirSync(folder, { recursive: true })
  const lines = Object.entries(hosts).flatMap(([host, addresses]) => addresses.map((address) => `${address} ${host}\n`))
  writeFileSync(join(folder, 'hosts'), ['127.0.0.1 localhost\n', ...lines].join(''))
  // No name server responds there.
  writeFileSync(join(folder, 'resolv.conf'), 'nameserver 127.0.0.1\n')

  for (const args of [
    ['netns', 'add', name],
    ['-n', name, 'link', 'set', 'lo', 'up'],
    ['-n', name, 'tuntap', 'add', DEVICE, 'mode', 'tun'],
    ['-n', name, 'address', 'add', `${LOCAL_ADDRESS}/16`, 'dev', DEVICE],
    ['-n', name, 'address', 'add', '2001:db8::1/64', 'dev', DEVICE, 'nodad'],
    ['-n', name, 'link', 'set', DEVICE, 'up'],
  ]) {
    if (!ip(...args)) throw new Error(`ip ${args.join(' ')} failed`)
  }

  const network: DistantNetwork = {
    spawn: (program, args, env = {}) => {
      const command = ['netns', 'exec', name, program, ...args]
      const path = process.env.PATH
      const child = spawn('ip', command, {
        env: withCompileCache({ PATH: path, ...env }),
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      started.push(child)
      return child
    },
    run: async (program, args, env) => {
      const child = network.spawn(program, args, env)
      const closed = once(child, 'close')
      if (child.stdout === null || child.stderr === null) throw new Error('the output of the program is not read')
      const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)])
      const [code] = await closed
      if (code !== 0) throw new Error(`${program} ended with ${code}: ${errors}`)
      return output
    },
  }
  await waitForLine(network.spawn('perl', ['-e', RELAY, DEVICE, String(roundTripMs / 2000)]), /^ready/)
  return network
}

/** Resolves with the first matching line of the output. @throws if the program ends without one */
export const waitForLine = async (child: ChildProcess, pattern: RegExp): Promise<string> => {
  const { stdout, stderr } = child
  if (stdout === null || stderr === null) throw new Error('the output of the program is not read')
  const errors = text(stderr)
  for await (const line of createInterface({ input: stdout })) {
    if (!pattern.test(line)) continue
    stdout.resume()
    return line
  }
  throw new Error(`the program ended without a line like ${pattern}: ${await errors}`)
}
