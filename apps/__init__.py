"""Programs over the library: the local app.

`worker` owns MLX, `state` is what one user has, `tasks` are the buttons, `drawing` and
`export` are what is shown and taken away; `app` only lays that out with Gradio.
"""
