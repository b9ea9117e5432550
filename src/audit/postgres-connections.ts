import { Socket } from 'node:net'
import { type ClientBase, Pool, type PoolClient, TypeOverrides, types } from 'pg'
import { by, deadlineIn } from '../deadline.ts'
import type { Secret } from '../secret.ts'
import { reasonOf, sqlStateOf } from './postgres-reason.ts'

/**
 * What a statement came to. A code is the server's SQLSTATE; where it said nothing, nobody knows what it has done. The reason
 * is the same, or what the network said.
 */
export type Answer = { readonly ok: true; readonly rows: readonly Readonly<Record<string, unknown>>[] } | FailedAnswer

export interface FailedAnswer {
  readonly ok: false
  readonly code: string
  readonly reason: string
}

export type Query = (sql: string, values?: readonly unknown[]) => Promise<Answer>

/** Connections to one server as one role, made when they are needed and made anew when they were lost. */
export interface Connections {
  readonly query: Query
  /** All of it or nothing: it is committed unless one of its statements failed. */
  transaction(work: (query: Query) => Promise<Answer>): Promise<Answer>
  close(): Promise<void>
}

export interface ConnectionsOptions {
  readonly url: Secret
  readonly max: number
  /** How long to wait for a connection, and for a lock and a statement on the server. */
  readonly connectMs: number
  readonly lockMs: number
  readonly statementMs: number
}

/** Where there was no server to ask, and where one was asked and did not answer. */
const UNREACHABLE = 'unreachable'
export const UNANSWERED = 'unanswered'

/** What the server is given beyond its own deadline before it is taken for gone. */
const ANSWER_MS = 1000
const CLOSE_MS = 500

// Numbers of ours fit: they are milliseconds and counts.
const numbers = new TypeOverrides()
numbers.setTypeParser(types.builtins.INT8, Number)

/**
 * Once for each connection. As a statement, since a pooler such as PgBouncer refuses it as parameters of the connection. An
 * append is durable when it is answered, whatever is set for the database.
 */
const sessionOf = ({ lockMs, statementMs }: ConnectionsOptions): string => `
  SET search_path = audit; SET synchronous_commit = on; SET lock_timeout = ${lockMs};
  SET statement_timeout = ${statementMs};
`

export const createConnections = (options: ConnectionsOptions): Connections => {
  const sockets = new Set<Socket>()
  const session = sessionOf(options)
  const pool = new Pool({
    connectionString: options.url.reveal(),
    application_name: 'domain-task-gateway',
    max: options.max,
    types: numbers,
    keepAlive: true,
    connectionTimeoutMillis: options.connectMs,
    query_timeout: options.statementMs + ANSWER_MS,
    stream: () => trackSocket(sockets),
    onConnect: (client: ClientBase) => client.query(session),
  })
  // An idle connection that is lost is replaced by the next statement, which tells.
  pool.on('error', () => undefined)

  const use = async (work: (client: PoolClient) => Promise<Answer>): Promise<Answer> => {
    const client = await pool.connect().catch((error: unknown) => failed(error, UNREACHABLE))
    if ('ok' in client) return client
    // One that is lost meanwhile says so to whoever waits, and would end the process besides.
    client.on('error', ignore)
    const answer = await work(client)
    client.off('error', ignore)
    // What is left of a failure, such as an open transaction, ends with its connection.
    client.release(!answer.ok)
    return answer
  }

  return {
    query: (sql, values) => use((client) => queryOn(client)(sql, values)),
    transaction: (work) => use((client) => transact(queryOn(client), work)),
    close: async () => {
      await by(deadlineIn(CLOSE_MS), pool.end(), undefined)
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** A server that is frozen closes nothing. */
const trackSocket = (sockets: Set<Socket>): Socket => {
  const socket = new Socket()
  sockets.add(socket)
  socket.once('close', () => sockets.delete(socket))
  return socket
}

const transact = async (query: Query, work: (query: Query) => Promise<Answer>): Promise<Answer> => {
  const begun = await query('BEGIN')
  const done = begun.ok ? await work(query) : begun
  const ended = done.ok ? await query('COMMIT') : done
  return ended.ok ? done : ended
}

const ignore = (): void => undefined

const queryOn =
  (client: PoolClient): Query =>
  async (sql, values = []) => {
    try {
      // Several statements at once have none.
      const { rows = [] } = await client.query(sql, [...values])
      return { ok: true, rows }
    } catch (error) {
      return failed(error, UNANSWERED)
    }
  }

const failed = (error: unknown, otherwise: string): FailedAnswer => ({
  ok: false,
  code: sqlStateOf(error) ?? otherwise,
  reason: reasonOf(error),
})
