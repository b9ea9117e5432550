import express, { type Express } from 'express'

/** An Express app with strict, case-sensitive routing that discloses nothing about itself. */
export const createExpress = (): Express => {
  const app = express()
  app.disable('x-powered-by').disable('etag').enable('strict routing').enable('case sensitive routing')
  // Express's own last resort shows a stack in any other environment.
  return app.set('query parser', 'simple').set('env', 'production')
}
