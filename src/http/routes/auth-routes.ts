import type { ErrorRequestHandler, Request, RequestHandler, Response } from 'express'
import * as z from 'zod'
import { isSafeUrl } from '../../addresses.ts'
import type { Sessions } from '../../callers/session.ts'
import type { SignIn } from '../../callers/sign-in.ts'
import { GatewayError, type Lang } from '../../errors.ts'
import { withinRequestDeadline } from '../middleware/context.ts'
import {
  cookieValues,
  markerValue,
  SESSION_COOKIE,
  signInCookie,
  sortSignInValues,
  surplusSignIns,
} from '../middleware/cookies.ts'
import { html, sendHtml } from '../presentation/html.ts'
import { PROBLEMS } from '../presentation/problems.ts'
import { describeProblem } from './problem-pages.ts'
import { langParameter, parseQuery, rule } from './query.ts'

export interface AuthRouteOptions {
  readonly sessions: Sessions
  readonly signIn: SignIn
  readonly publicUrl: string
  /** Origins of other pages that a sign-in can lead to. */
  readonly corsOrigins: readonly string[]
  /** Path to go to after a sign-in without `returnTo`. */
  readonly home: string
  /** Called once the provider has identified the person. */
  readonly onSignedIn: (req: Request) => Promise<void>
}

const RETURN_TO_MAX = 1000

/** Signing browsers in and out, at an identity provider. */
export const createAuthRoutes = (options: AuthRouteOptions) => {
  const { sessions, signIn, publicUrl, corsOrigins, home, onSignedIn } = options
  const target = z
    .string(rule('returnTo'))
    .transform((text) => pathIn(text, publicUrl) ?? foreignUrlIn(text, corsOrigins))
    // A cookie holds it, in this form.
    .refine((text): text is string => text !== null && text.length <= RETURN_TO_MAX, rule('returnTo'))
  const returnTo = z.preprocess((text) => (text === undefined || text === '' ? home : text), target)
  // Unknown parameters are ignored (OpenID Connect Core, section 4).
  const loginQuery = z.object({ returnTo, lang: langParameter })
  const begin = (req: Request) =>
    withinRequestDeadline(
      req,
      signIn.begin(parseQuery(loginQuery, req.query).returnTo),
      'identity-provider-unavailable',
    )

  // A redirect would belong to the navigation that the provider's site began, so it would carry no Strict cookie.
  const showSignedIn = (req: Request, res: Response, returnTo: string): void => {
    const { lang } = req.context
    const { title, go } = WORDS[lang]
    const { href, host } = new URL(returnTo.startsWith('/') ? `${publicUrl}${returnTo}` : returnTo)
    const head = html`<meta http-equiv="refresh" content="0;url=${href}">\n`
    sendHtml(res, { lang, title, head, body: html`<main>\n<p><a href="${href}">${go}${host}</a></p>\n</main>` })
  }

  return {
    /** Handles requests for `login` that no person waits for, or that another page embeds: they start no sign-in. */
    previewLogin: async function loginPreviewer(req, res, next) {
      refusePrefetch(req)
      refuseEmbedding(req)
      if (req.method !== 'HEAD') return next()
      const { location } = await begin(req)
      res.status(302).location(location.href).end()
    },

    /** Refuses requests for `callback` that no person waits for: they complete no sign-in. */
    refusePreview: function previewGuard(req, _res, next) {
      refusePrefetch(req)
      if (req.method === 'HEAD') throw new GatewayError('sign-in-failed')
      next()
    },

    login: async function login(req, res) {
      const { location, id, transaction, lifetimeMs } = await begin(req)
      const cookie = signInCookie(id)
      makeRoom(req, res, [[cookie.name, transaction]])
      res.cookie(cookie.name, transaction, { ...cookie.options, maxAge: lifetimeMs })
      res.status(302).location(location.href).end()
    },

    /**
     * Learns from the provider the person who signs in, and makes it the caller of the request. Where that sign-in was
     * completed a short time ago, shows its page again.
     */
    completeSignIn: async function signInCompleter(req, res, next) {
      const { search: query } = new URL(req.url, publicUrl)
      const id = signIn.idOf(query)
      const cookie = id === null ? null : signInCookie(id)
      const values = cookie === null ? [] : cookieValues(req, cookie)
      const { transactions, markers } = sortSignInValues(values)
      const path = await signIn.completedBefore(query, markers)
      if (path !== undefined) return showSignedIn(req, res, path)
      const onUsedUp = (): void => {
        if (cookie !== null && values.length > 0 && !res.headersSent) res.clearCookie(cookie.name, cookie.options)
      }
      const completed = signIn.complete({ query, transactions, onUsedUp })
      const arrival = await withinRequestDeadline(req, completed, 'identity-provider-unavailable')
      // The response clears the cookie unless `callback` begins a session: the limit of the caller may refuse that.
      onUsedUp()
      req.context.signInResult = arrival
      req.context.caller = sessions.callerOf(arrival.identity)
      if (arrival.complete()) await onSignedIn(req)
      next()
    },

    /** After `completeSignIn`: begins the session. */
    callback: async function callback(req, res) {
      const { signInResult: arrival } = req.context
      if (arrival === null) throw new GatewayError('sign-in-failed')
      const session = await sessions.begin(arrival.identity, arrival.sessionId)
      const { name, options } = signInCookie(arrival.id)
      // The marker takes the place of the end of the transaction.
      res.removeHeader('Set-Cookie')
      const marker = markerValue(arrival.marker)
      makeRoom(req, res, [
        [name, marker],
        [SESSION_COOKIE.name, session],
      ])
      res.cookie(name, marker, { ...options, maxAge: arrival.markerLifetimeMs })
      res.cookie(SESSION_COOKIE.name, session, SESSION_COOKIE.options)
      showSignedIn(req, res, arrival.returnTo)
    },

    /** Ends the session of the request and clears its cookie, also if the request is then refused. */
    endSession: async function sessionEnder(req, res, next) {
      res.clearCookie(SESSION_COOKIE.name, SESSION_COOKIE.options)
      await sessions.end(cookieValues(req, SESSION_COOKIE))
      next()
    },

    logout: function logout(_req, res) {
      res.json({ logoutUrl: signIn.logoutUrl() })
    },
  } satisfies Record<string, RequestHandler>
}

/** Responds to an error with a page where the browser accepts one. */
export const showAuthProblem: ErrorRequestHandler = function authProblemHandler(error, req, res, next) {
  const wantsPage = req.accepts(['application/problem+json', 'text/html']) === 'text/html'
  if (!wantsPage || !(error instanceof GatewayError)) return next(error)
  const { lang } = req.context
  req.context.code = error.code
  const again = html`<a class="button" href="login">${WORDS[lang].again}</a>`
  res.status(PROBLEMS[error.code].status)
  sendHtml(res, { lang, ...describeProblem(error, lang, again) })
}

/** Removes cookies of other sign-ins, as far as those that follow need their room. */
const makeRoom = (req: Request, res: Response, added: Parameters<typeof surplusSignIns>[1]): void => {
  for (const { name, options } of surplusSignIns(req, added)) res.clearCookie(name, options)
}

/** Browsers that load a page before a person asks for it, in the headers of today and of older versions. */
const PREFETCH_HEADERS = ['sec-purpose', 'purpose', 'x-purpose', 'x-moz'] as const

/** A refusal makes the browser request the page again once a person asks for it. @throws sign-in-failed */
const refusePrefetch = ({ headers }: Request): void => {
  const isPrefetch = PREFETCH_HEADERS.some((name) =>
    /\b(prefetch|prerender|preview)\b/i.test(String(headers[name] ?? '')),
  )
  if (isPrefetch) throw new GatewayError('sign-in-failed')
}

/**
 * Only a navigation of the whole tab starts a sign-in: no frame, image or script of another page. Browsers of before 2023
 * send no such headers, and some send one of the two (W3C, Fetch Metadata Request Headers). The `fetch` of Node sends
 * `Sec-Fetch-Mode: cors` alone, as no browser does, and is not refused. @throws sign-in-failed
 */
const refuseEmbedding = ({ headers }: Request): void => {
  const { 'sec-fetch-mode': mode = 'navigate', 'sec-fetch-dest': destination, 'sec-fetch-site': site } = headers
  const isNodeFetch = mode === 'cors' && destination === undefined && site === undefined
  const isNavigation = mode === 'navigate' || isNodeFetch
  if (!isNavigation || (destination ?? 'document') !== 'document') throw new GatewayError('sign-in-failed')
}

/** A path of the gateway with query and fragment, in the form of a URL; null for another text. */
const pathIn = (text: string, publicUrl: string): string | null => {
  const url = text.startsWith('/') ? URL.parse(text, publicUrl) : null
  return url?.origin === publicUrl ? url.href.slice(publicUrl.length) : null
}

/**
 * A URL of one of those origins; null for another text. Parsers of browsers and servers disagree on user information,
 * backslashes and control characters, so a text with one of them is refused before it is parsed.
 */
const foreignUrlIn = (text: string, origins: readonly string[]): string | null => {
  const url = FOREIGN_URL.test(text) ? URL.parse(text) : null
  return url !== null && isSafeUrl(url) && origins.includes(url.origin) ? url.href : null
}

const FOREIGN_URL = /^https?:\/\/[^\p{C}\s\\/?#@]+([/?#][^\p{C}\s\\]*)?$/iu

const WORDS: Readonly<Record<Lang, Readonly<Record<'title' | 'go' | 'again', string>>>> = {
  en: { title: 'Signed in', go: 'Continue to ', again: 'Sign in again' },
  zh: { title: '已登录', go: '继续前往 ', again: '重新登录' },
}
