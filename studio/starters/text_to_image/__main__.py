from studio.starters.text_to_image.recipe import main

main()
