import { Socket } from 'node:net'
import { type ClientBase, Pool, type PoolClient, TypeOverrides, types } from 'pg'
import type { Secret } from '../secret.ts'
import { deadlineIn, withDeadline } from '../time.ts'
import { reasonOf, sqlStateOf } from './postgres-reason.ts'

/**
 * The result of a statement. A code is the server's SQLSTATE. Without a response the effect of the statement is
 * unknown. The reason is the SQLSTATE, or the error code of the network.
 */
export type Answer = { readonly ok: true; readonly rows: readonly Readonly<Record<string, unknown>>[] } | FailedAnswer

export interface FailedAnswer {
  readonly ok: false
  readonly code: string
  readonly reason: string
}

export type Query = (sql: string, values?: readonly unknown[]) => Promise<Answer>

export type Connections = ReturnType<typeof createConnections>

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
/** The caller left while the statement ran, or before it was sent. */
const CANCELLED: Answer = { ok: false, code: 'cancelled', reason: 'CANCELLED' }
const UNSENT: Answer = { ok: false, code: 'not sent', reason: 'CANCELLED' }

/** Time for the response after the server's own deadline. Later the server counts as gone. */
const ANSWER_MS = 1000
const CLOSE_MS = 500

// Numbers of ours fit: they are milliseconds and counts.
const numbers = new TypeOverrides()
numbers.setTypeParser(types.builtins.INT8, Number)

/**
 * Once for each connection. As a statement, since a pooler such as PgBouncer refuses it as parameters of the
 * connection. An append is durable when it is answered, with any setting of the database. Each statement has an index
 * whose order is that of its page. The planner may still expect less work from reading the whole table, or from a
 * bitmap and a sort of all rows of a wide range; both take longer the larger the record is.
 */
export const sessionOf = ({ lockMs, statementMs }: Pick<ConnectionsOptions, 'lockMs' | 'statementMs'>): string => `
  SET search_path = audit; SET synchronous_commit = on; SET lock_timeout = ${lockMs};
  SET statement_timeout = ${statementMs}; SET enable_seqscan = off; SET enable_bitmapscan = off;
`

/** Connections to one server as one role, made when they are needed and made anew when they were lost. */
export const createConnections = (options: ConnectionsOptions) => {
  const sockets = new Set<Socket>()
  const pool = createPool(options, sockets, options.max)
  // Apart, since all others can be busy with the statements that are to be cancelled. It is connected when it is
  // needed.
  const canceller = createPool(options, sockets, 1)

  const use = async (work: (client: PoolClient) => Promise<Answer>): Promise<Answer> => {
    const client = await pool.connect().catch((error: unknown) => failed(error, UNREACHABLE))
    if ('ok' in client) return client
    // The statement fails if the connection is lost. Without a listener the event would also end the process.
    client.on('error', ignore)
    const answer = await work(client)
    client.off('error', ignore)
    // Remains of a failure, such as an open transaction, end with the connection.
    client.release(!answer.ok && answer !== UNSENT)
    return answer
  }

  const backends = new WeakMap<PoolClient, unknown>()
  /**
   * The process that serves a connection, as the server numbers it: a pooler in between gives out numbers of its own.
   */
  const backendOf = async (client: PoolClient): Promise<Answer> => {
    if (backends.has(client)) return { ok: true, rows: [{ pid: backends.get(client) }] }
    const answer = await queryOn(client)('SELECT pg_backend_pid() AS pid')
    if (answer.ok) backends.set(client, answer.rows[0]?.pid)
    return answer
  }

  const cancel = (pid: unknown): Promise<unknown> =>
    canceller.query('SELECT pg_cancel_backend($1)', [pid]).catch(ignore)

  /** A connection whose statement was cancelled is not used again: the request may reach the server after its end. */
  const queryUntil = async (client: PoolClient, signal: AbortSignal, sql: string, values: readonly unknown[]) => {
    if (signal.aborted) return UNSENT
    const backend = await backendOf(client)
    if (!backend.ok) return backend
    if (signal.aborted) return UNSENT
    let cancelled: Promise<unknown> | undefined
    const abandon = (): void => {
      cancelled = cancel(backend.rows[0]?.pid)
    }
    signal.addEventListener('abort', abandon, { once: true })
    const answer = await queryOn(client)(sql, values)
    signal.removeEventListener('abort', abandon)
    await cancelled
    return cancelled === undefined ? answer : CANCELLED
  }

  return {
    /** A statement whose signal aborts is cancelled on the server. */
    query: (sql: string, values: readonly unknown[] = [], signal?: AbortSignal): Promise<Answer> =>
      use((client) => (signal === undefined ? queryOn(client)(sql, values) : queryUntil(client, signal, sql, values))),
    /** All of it or nothing: it is committed unless one of its statements failed. */
    transaction: (work: (query: Query) => Promise<Answer>): Promise<Answer> =>
      use((client) => transact(queryOn(client), work)),
    close: async (): Promise<void> => {
      await withDeadline(deadlineIn(CLOSE_MS), Promise.all([pool.end(), canceller.end()]), undefined)
      for (const socket of sockets) socket.destroy()
    },
  }
}

const createPool = (options: ConnectionsOptions, sockets: Set<Socket>, max: number): Pool => {
  const pool = new Pool({
    connectionString: options.url.reveal(),
    application_name: 'domain-task-gateway',
    max,
    types: numbers,
    keepAlive: true,
    connectionTimeoutMillis: options.connectMs,
    query_timeout: options.statementMs + ANSWER_MS,
    stream: () => trackSocket(sockets),
    onConnect: (client: ClientBase) => client.query(sessionOf(options)),
  })
  // An idle connection that is lost is replaced by the next statement, which tells.
  pool.on('error', () => undefined)
  return pool
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
