from pagewise.engine.main import main

main()
