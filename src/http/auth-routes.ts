import type { ErrorRequestHandler, Request, RequestHandler } from 'express'
import { z } from 'zod'
import type { Sessions } from '../callers/session.ts'
import type { SignIn } from '../callers/sign-in.ts'
import { GatewayError, type Lang } from '../errors.ts'
import { inTime } from './context.ts'
import { cookieValues, SESSION_COOKIE, SIGN_IN_COOKIE } from './cookies.ts'
import { html, sendHtml } from './page.ts'
import { PROBLEMS } from './problem.ts'
import { describeProblem } from './problem-pages.ts'
import { langParameter, parseQuery, rule } from './query.ts'

/** Signing browsers in and out, at an identity provider. */
export interface AuthRoutes {
  readonly login: RequestHandler
  /** Learns from the provider who signs in: the caller of what follows. */
  readonly completeSignIn: RequestHandler
  /** After `completeSignIn`: begins the session. */
  readonly callback: RequestHandler
  /** Shows what went wrong to a person, where a page was asked for. */
  readonly showProblem: ErrorRequestHandler
  /** Ends the session of the request, and its cookie, whatever the answer will be. */
  readonly endSession: RequestHandler
  readonly logout: RequestHandler
}

export interface AuthRouteOptions {
  readonly sessions: Sessions
  readonly signIn: SignIn
  readonly publicUrl: string
  /** Where those go who did not say where they came from: a path. */
  readonly home: string
  /** After the provider has said who signs in. */
  readonly onSignedIn: (req: Request) => Promise<void>
}

const RETURN_TO_MAX = 1000

export const createAuthRoutes = ({ sessions, signIn, publicUrl, home, onSignedIn }: AuthRouteOptions): AuthRoutes => {
  const returnTo = z
    .string(rule('returnTo'))
    .startsWith('/', rule('returnTo'))
    // It travels in a cookie.
    .max(RETURN_TO_MAX, rule('returnTo'))
    .default(home)
    .transform((path) => URL.parse(path, publicUrl))
    .refine((url) => url?.origin === publicUrl, rule('returnTo'))
    .transform((url) => String(url))
  const loginQuery = z.strictObject({ returnTo, lang: langParameter })

  return {
    login: async function login(req, res) {
      const asked = parseQuery(loginQuery, req.query)
      const { location, transaction, lifetimeMs } = await inTime(req, signIn.begin(asked.returnTo), UNAVAILABLE)
      res.cookie(SIGN_IN_COOKIE.name, transaction, { ...SIGN_IN_COOKIE.options, maxAge: lifetimeMs })
      res.status(302).location(location.href).end()
    },

    completeSignIn: async function signInCompleter(req, res, next) {
      // Whatever comes of it, it is used up.
      res.clearCookie(SIGN_IN_COOKIE.name, SIGN_IN_COOKIE.options)
      const { search } = new URL(req.url, publicUrl)
      const arrival = await inTime(req, signIn.complete(search, cookieValues(req, SIGN_IN_COOKIE)), UNAVAILABLE)
      req.context.arrival = arrival
      req.context.caller = sessions.callerOf(arrival.identity)
      await onSignedIn(req)
      next()
    },

    callback: async function callback(req, res) {
      const { arrival } = req.context
      if (arrival === null) throw new GatewayError('sign-in-failed')
      const session = await sessions.begin(arrival.identity)
      res.cookie(SESSION_COOKIE.name, session, SESSION_COOKIE.options)
      // A redirect would still belong to what the provider's site began, and carry no Strict cookie.
      const { lang } = req.context
      const { title, go } = WORDS[lang]
      const head = html`<meta http-equiv="refresh" content="0;url=${arrival.returnTo}">\n`
      sendHtml(res, { lang, title, head, body: html`<main>\n<p><a href="${arrival.returnTo}">${go}</a></p>\n</main>` })
    },

    showProblem: function authProblemHandler(error, req, res, next) {
      const wantsPage = req.accepts(['application/problem+json', 'text/html']) === 'text/html'
      if (!wantsPage || !(error instanceof GatewayError)) return next(error)
      const { lang } = req.context
      req.context.code = error.code
      const { title, body } = describeProblem(error.code, lang)
      res.status(PROBLEMS[error.code].status)
      sendHtml(res, { lang, title, body: html`${body}\n<p><a href="login">${WORDS[lang].again}</a></p>` })
    },

    endSession: async function sessionEnder(req, res, next) {
      res.clearCookie(SESSION_COOKIE.name, SESSION_COOKIE.options)
      await sessions.end(cookieValues(req, SESSION_COOKIE))
      next()
    },

    logout: function logout(_req, res) {
      res.json({ logoutUrl: signIn.logoutUrl() })
    },
  }
}

/** Whoever has to wait for the provider for too long. */
const UNAVAILABLE = 'identity-provider-unavailable'

const WORDS: Readonly<Record<Lang, Readonly<Record<'title' | 'go' | 'again', string>>>> = {
  en: { title: 'Signed in', go: 'Go on', again: 'Sign in again' },
  zh: { title: '已登录', go: '继续', again: '重新登录' },
}
