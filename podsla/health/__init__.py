"""What is wrong with podsla in a cluster: pure findings over one snapshot of objects.

`install` judges what is installed, `serving` what is served and by whom it can be held. Neither calls anybody.
"""
