"""A FastAPI application, as a developer has one; the test copies it and edits the copy while uvicorn watches it."""

from fastapi import FastAPI, Request

app = FastAPI()


@app.get("/health")
def health():
    return {"status": "ok"}


@app.get("/greeting")
def greeting():
    return {"greeting": "first"}


@app.post("/sum")
async def total(request: Request):
    numbers = await request.json()
    return {"sum": sum(numbers)}
